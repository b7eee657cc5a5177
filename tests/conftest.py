from hypothesis import settings

# TensorFlow's first call of a kind takes long, and machines are shared: no example is too slow.
settings.register_profile("kzoo", deadline=None)
settings.load_profile("kzoo")
