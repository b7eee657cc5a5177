import json

from kzoo.options import plain


def test_options_are_the_same_before_and_after_json():
    options = {"sizes": ((16, 32), [64]), "more": {"levels": [3, (4,)]}, "name": "small", "none": None}
    expected = {"sizes": ((16, 32), (64,)), "more": {"levels": (3, (4,))}, "name": "small", "none": None}
    assert plain(options) == plain(json.loads(json.dumps(options))) == expected
