from kzoo.printable import printable


def test_what_steers_terminals_or_cannot_be_encoded_is_escaped():
    assert printable("größer\tas\nis") == "größer\tas\nis"
    assert printable("a\x1b[2J\x07\x7f\x9b\r") == r"a\x1b[2J\x07\x7f\x9b\x0d"
    assert printable("\udcff") == r"\udcff"
    assert printable("größer", "ascii") == r"gr\xf6\xdfer"
