"""`pianofarm render`."""


def register(app):
    pass
