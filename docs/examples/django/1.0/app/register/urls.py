"""Two addresses: how it is, and the seizures."""

from django.urls import path
from seizures import views

urlpatterns = [path("health", views.health), path("seizures", views.seizures)]
