"""stub"""


def refusal(decay, x):
    return "not yet"
