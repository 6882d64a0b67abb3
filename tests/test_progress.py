"""What a long computation says on a terminal: numbered stages, and colour where it is wanted."""

import io

import pytest

from monai_deepssim.progress import Stages, quiet, say


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def test_colour_is_for_terminals_that_have_it(terminal, monkeypatch):
    say("3 copies", terminal, colour="red")
    assert terminal.getvalue() == "\x1b[1;31m3 copies\x1b[0m\n"
    log = io.StringIO()
    say("3 copies", log, colour="red")
    assert log.getvalue() == "3 copies\n"
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        monkeypatch.setenv(name, value)
        plain = Terminal()
        say("3 copies", plain, colour="red")
        assert plain.getvalue() == "3 copies\n"
        monkeypatch.delenv(name)


def test_a_name_cannot_colour_a_terminal(terminal):
    say("a\x1b[31mb.png", terminal)
    assert terminal.getvalue() == "a\\x1b[31mb.png\n"


def test_a_terminal_that_lacks_a_letter_gets_its_code():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    say("ä\U0001f9e0.png", stream)
    stream.flush()
    assert stream.buffer.getvalue().rstrip() == b"\\xe4\\U0001f9e0.png"


def test_stages_are_numbered_and_timed_and_others_timed_alone(capsys):
    stages = Stages({"listing": "List the images", "search": "Search"})
    for name in ("listing", "search", "report"):
        with stages(name):
            pass
    assert capsys.readouterr().out == "[1/2] List the images\n[2/2] Search\n"
    assert list(stages.seconds) == ["listing", "search", "report"]
    with quiet(), stages("listing"):
        pass
    assert capsys.readouterr().out == ""
