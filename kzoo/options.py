"""Options of a builder, as they are whether or not they went through JSON."""


def plain(value: object) -> object:
    """An option in Python's own containers: JSON knows no tuples, so all sequences become tuples.

    ```python
    plain([[16, 32], {"levels": [3]}])  # ((16, 32), {"levels": (3,)})
    ```

    Args:
        value: an option, or a dict of all by their names; sequences and dicts within it are looked into.
    """
    if isinstance(value, dict):
        return {name: plain(option) for name, option in value.items()}
    if isinstance(value, list | tuple):
        return tuple(plain(part) for part in value)
    return value
