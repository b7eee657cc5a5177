from kzoo.weights.errors import shown


def test_names_are_shown_as_they_are():
    assert shown("layer1.0.größe") == "layer1.0.größe"


def test_what_a_terminal_would_obey_is_escaped():
    assert shown("a\x1b[2J\n\ud800") == r"a\x1b[2J\n\ud800"


def test_long_names_are_cut():
    assert shown("x" * 200) == "x" * 200
    assert shown("x" * 10**6) == "x" * 197 + "..."
    assert len(shown("\x1b" * 10**6)) == 200
