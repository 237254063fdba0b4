"""Words that were made in English, in the language of a session, as far as they are known."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import tomllib
from collections.abc import Callable
from contextlib import closing

import pytest

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import CONFIG_UNREADABLE
from ncen_updater.common.retranslate import retold
from tests.support.french import foreign

NARROW = "\N{NARROW NO-BREAK SPACE}"
#: What was said, and what a French session reads.
TABLE = [
    # Figures, which cross processes as words.
    ("25.1 GB", "25,1 Go"), ("300 bytes", "300 o"), ("2.5 s", "2,5 s"), ("99.9 %", "99,9 %"),
    ("21,673", f"21{NARROW}673"), ("2026-11-26", "26/11/2026"),
    ("2026-11-26 22:00 UTC", "26/11/2026 à 22:00 UTC"),
    ("2026-11-26T09:04:42Z", "26/11/2026 à 09:04:42 UTC"),
    ("2026-11-26 22:00 +0300", "26/11/2026 à 22:00 +0300"),
    # What only looks so.
    ("3.3", "3.3"), ("3.3.0", "3.3.0"), ("2026-13-40", "2026-13-40"), ("20261126", "20261126"),
    ("service, process 258", "service, processus 258"),
    ("/srv/a b", "/srv/a b"), ("amina, bo", "amina, bo"), ("", ""), (" ", " "),
    # The system.
    ("Permission denied", "accès refusé"),
    ("[Errno 13] Permission denied: '/x'", "fichier '/x' : accès refusé"),
    ("[Errno 28] No space left on device", "plus de place sur le disque"),
    # Sentences of ours: of a journal, of another process, of a room that hands on words alone.
    ("the databases are not fenced", "les bases de données ne sont pas verrouillées"),
    ("cases is missing in set-2", "cases manque dans set-2"),
    ("NU-4006: Migration 0003 of main failed. (line 3: UNIQUE constraint failed: a.b)",
     "NU-4006 : La migration 0003 de main a échoué. (ligne 3 : une valeur de a.b y serait deux"
     " fois)"),
    ("no requirements.txt", "il manque requirements.txt"),
    ("over 5000 bytes", "plus de 5000 octets"),
    # Servers and libraries.
    ('connection to server on socket "/run/.s.PGSQL.5432" failed: No such file or directory\n\tIs'
     " the server running locally and accepting connections on that socket?",
     "la connexion à /run/.s.PGSQL.5432 a échoué : aucun fichier ou répertoire de ce nom"),
    ('connection failed: connection to server at "127.0.0.1", port 9 failed: Connection refused\n'
     "\tIs the server running on that host and accepting TCP/IP connections?",
     "la connexion à 127.0.0.1 a échoué : connexion refusée"),
    ('permission denied for table secret (42501)', "aucun droit sur secret (42501)"),
    ("HTTPConnectionPool(host='127.0.0.1', port=9): Max retries exceeded with url: / (Caused by"
     " NewConnectionError(\"HTTPConnection(host='127.0.0.1', port=9): Failed to establish a new"
     " connection: [Errno 111] Connection refused\"))",
     "pas de connexion à 127.0.0.1:9 : connexion refusée"),
    ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"
     " (_ssl.c:1006)",
     "le certificat de l'autre côté n'est pas reconnu : personne de connu ne s'en porte garant"),
    # Nobody's: quoted, and said to be so.
    ("the moon is not there", "« the moon is not there » (texte d'origine)"),
    ("UPDATE a SET b = c FROM d", "UPDATE a SET b = c FROM d"),
    ("Le disque est plein.", "Le disque est plein."),
    ("line 7: the moon is not there", "ligne 7 : « the moon is not there » (texte d'origine)"),
    # Told in French before, by the service, with words of others in it: not quoted once more.
    ("Le changement a échoué : « the moon is not there » (texte d'origine)",
     "Le changement a échoué : « the moon is not there » (texte d'origine)"),
    # What a person wrote is no sentence of ours for a word that it shares with one.
    ("never becomes healthy", "never becomes healthy"),
    ("the port is live, but nobody answers",
     "« the port is live, but nobody answers » (texte d'origine)"),
    # The application, as the agent asks it.
    ("health: answered with status 503", "health : réponse avec le statut 503"),
    ("answered with status 500, expected 200", "réponse avec le statut 500, au lieu de 200"),
    ("health: answered with status 503; 'version' is \"3.3.4\", expected \"3.3.0\"; permits: the"
     " answer is not JSON",
     "health : réponse avec le statut 503, et « version » vaut \"3.3.4\" au lieu de \"3.3.0\", et"
     " permits : la réponse n'est pas du JSON"),
    ("health: did not answer: [Errno 111] Connection refused",
     "health : pas de réponse : connexion refusée"),
    ("health: was not asked: The token that the application is asked with, /etc/t, can be read by"
     " others.", "health : n'a pas été interrogée : Le jeton avec lequel l'application est"
     " interrogée, /etc/t, peut être lu par d'autres."),
    ("health: '/bin/x' cannot say the version: Permission denied; more: answered with status 404",
     "health : « /bin/x » ne peut dire la version : accès refusé, et more : réponse avec le statut"
     " 404"),
    ("health: '/bin/x' tells no version, and ended with status 3",
     "health : « /bin/x » n'indique aucune version, et s'est terminé avec le statut 3"),
    ("health: answered with status 401, refusing the token that this site sends"
     " (health_token_file); more: answered with status 403, refusing the headers that this site"
     " sends (health_headers)",
     "health : réponse avec le statut 401, qui refuse le jeton envoyé par ce site"
     " (health_token_file), et more : réponse avec le statut 403, qui refuse les en-têtes envoyés"
     " par ce site (health_headers)"),
    ("health: answered with status 401, refusing the token or the headers that this site sends"
     " (health_token_file, health_headers)",
     "health : réponse avec le statut 401, qui refuse le jeton ou les en-têtes envoyés par ce site"
     " (health_token_file, health_headers)"),
    ("health: did not answer within 5 seconds", "health : pas de réponse en 5 s"),
    ("health: the field 'version' is missing", "health : le champ « version » manque"),
    ("< 0.1 s", "< 0,1 s"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "french"), TABLE)
def test_words_of_others_in_french(said: str, french: str) -> None:
    assert retold(said, "fr") == french
    assert Text("{a}", {"a": said}).render("fr") == french
    assert Text("{a}", {"a": said}).render("en") == said


def _json() -> object:
    return json.loads("{")


def _toml() -> object:
    return tomllib.loads("a = ")


def _sqlite() -> object:
    with closing(sqlite3.connect(":memory:")) as connection:
        return connection.execute("SELECT * FROM nowhere")


def _program() -> object:
    return subprocess.run(["false"], check=True)


def _file() -> object:
    with open("/nowhere/at all") as stream:  # noqa: PTH123 - as a library does
        return stream


@pytest.mark.parametrize("fails", [_json, _toml, _sqlite, _program, _file])
def test_what_libraries_really_say(fails: Callable[[], object]) -> None:
    with pytest.raises((ValueError, OSError, sqlite3.Error, subprocess.SubprocessError)) as caught:
        fails()
    said = retold(str(caught.value), "fr")
    assert "texte d'origine" not in said
    assert foreign(said, "nowhere") == []


def test_a_command_that_is_quoted_stays_as_it_is_typed() -> None:
    when = {"at": "2026-11-26 22:00"}
    assert Text("x : « schedule {at} »", when).render("fr") == "x : « schedule 2026-11-26 22:00 »"
    assert Text("x : « {at} »", when).render("fr") == "x : « 26/11/2026 à 22:00 »"
    words = {"words": "the moon is not there"}
    assert Text("x : « {words} »", words).render("fr") == "x : « the moon is not there »"
    assert "» (texte d'origine)" in Text("« a » et {words}", words).render("fr")


def test_the_detail_of_an_error() -> None:
    error = UpdaterError(CONFIG_UNREADABLE, path="/x", detail="not a regular file")
    assert error.told is not None
    assert error.told.render("fr") == "ce n'est pas un fichier ordinaire"
    several = UpdaterError(CONFIG_UNREADABLE, path="/x", detail="no value\nthe moon is not there")
    assert several.told is not None
    assert several.told.render("fr").startswith("« no value\nthe moon")


def test_nothing_makes_it_fail() -> None:
    deep = "NU-1101: " * 50 + "the end is not there"
    assert "NU-1101" in retold(deep, "fr")
    for said in ("{a} is not {b}", "a\x00b is", "\ud800 is not", "x" * 50_000 + " is", "( is not"):
        assert retold(said, "fr")
    assert retold("a (is not", "fr") and N_("no")


@pytest.mark.parametrize(
    "said",
    [
        "the end is " * 5000,
        "a of b: " * 120,
        "HTTPConnectionPool(host='a', port=9): Max retries exceeded" + " (Caused by a: 'b')" * 50,
        "(" * 900 + " is not " + ")" * 90,
        "is: " * 240,
        "not \n" * 4000,
    ],
)
def test_words_of_strangers_take_no_more_time_than_they_are_long(said: str) -> None:
    """What is tried again and again would not come to an end here."""
    assert retold(said, "fr")
