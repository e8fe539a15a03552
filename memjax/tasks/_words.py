"""Adjectives and nouns from which the keys of needles are made."""

_ADJECTIVES = """\
amber ancient bitter blunt bold brave brief bright broad calm careful clever cloudy coarse cold copper crisp
curious dark deep distant dry dusty eager early faint fierce firm fresh gentle golden grand green heavy hidden
hollow humble icy jolly late little lively lonely mellow mighty narrow noble odd patient plain proud quick quiet
rapid rough rusty silent silver simple slender solemn steady tender wooden"""
ADJECTIVES = tuple(_ADJECTIVES.split())
"""64 different adjectives."""
_NOUNS = """\
acorn anchor anvil apron badge barrel basket beacon bridge bucket button candle canyon carpet castle chimney
circle comet corner cradle desert dragon engine falcon feather fiddle forest garden glacier hammer harbor helmet
island jacket kettle ladder lantern lemon magnet marble meadow mirror needle orchard paddle parcel pebble pencil
pillow planet pocket puzzle ribbon saddle shadow spoon statue temple thunder ticket tunnel valley violin
window"""
NOUNS = tuple(_NOUNS.split())
"""64 different nouns."""
