"""Regions of the WCO: names for sets of countries. What is signed holds countries alone.

The file is signed by nobody and read at the desk of the Secretariat only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from ncen_updater.common.bounded_io import parse_toml, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import REGIONS_INVALID
from ncen_updater.formats.manifest import Country, SignedModel
from ncen_updater.publisher.errors import describe_system_error

MAX_BYTES = 100_000
#: Names the leaders of all regions, where a region is asked for.
LEADERS = "leaders"
RegionCode = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2,8}$")]


class Region(SignedModel):
    """One region.

    Attributes:
        name: For people.
        countries: Its countries.
        leader: The country that leads it.
    """

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    countries: Annotated[tuple[Country, ...], Field(min_length=1, max_length=300)]
    leader: Country

    @model_validator(mode="after")
    def _check_leader(self) -> Region:
        if self.leader not in self.countries:
            raise ValueError(f"the leader {self.leader} is none of its countries")
        return self


Regions = Mapping[str, Region]
_ADAPTER = TypeAdapter(dict[RegionCode, Region])


def read_regions(path: Path) -> Regions:
    """Read ``regions.toml``, a table for each region.

    Raises:
        REGIONS_INVALID: If it is not readable, or a country is in two regions.
    """
    try:
        regions = _ADAPTER.validate_python(parse_toml(read_file(path, MAX_BYTES).decode()))
        seen: dict[str, str] = {}
        for code, region in regions.items():
            for country in region.countries:
                if country in seen:
                    raise ValueError(f"{country} is in {seen[country]} and in {code}")
                seen[country] = code
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UpdaterError(REGIONS_INVALID, path=path, reason=f"{place}: {first['msg']}") from error
    except (OSError, ValueError) as error:
        reason = describe_system_error(error) if isinstance(error, OSError) else str(error)
        raise UpdaterError(REGIONS_INVALID, path=path, reason=reason) from error
    return regions


def list_countries(regions: Regions, name: str) -> tuple[str, ...]:
    """Return the countries that ``@NAME`` stands for: of a region, or the leaders of all.

    Raises:
        KeyError: If there is no such region.
    """
    if name == LEADERS:
        return tuple(sorted(region.leader for region in regions.values()))
    return tuple(sorted(regions[name].countries))


def find_region(regions: Regions, country: str) -> str:
    """Return the code of a country's region; empty for none."""
    return next((code for code, one in regions.items() if country in one.countries), "")
