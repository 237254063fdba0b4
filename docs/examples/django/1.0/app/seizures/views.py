"""Pages for users, and the addresses that the agent requests."""

import json

from django.conf import settings
from django.http import JsonResponse

from seizures.models import Seizure


def health(request):
    """Whether it works, and which version it is."""
    return JsonResponse({"version": settings.VERSION, "seizures": Seizure.objects.count()})


def seizures(request):
    """List them, or enter one."""
    if request.method == "POST":
        made = Seizure.objects.create(**json.loads(request.body))
        return JsonResponse({"id": made.id}, status=201)
    return JsonResponse({"seizures": list(Seizure.objects.order_by("id").values())})
