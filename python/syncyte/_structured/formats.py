"""Formats of JSON Schema's strings as GBNF, for the inside of the quotes.

Each gives a part of what the format allows: leap days and leap seconds, e-mail addresses in quotes and other
rare forms are never made.
"""

_LABEL = '[a-z] [a-z0-9]{0,15} ("-" [a-z0-9]{1,15})?'

rules: dict[str, str] = {
    "date": '[1-9] [0-9]{3} "-" (format-day31 | format-day30 | "02-" ("0" [1-9] | "1" [0-9] | "2" [0-8]))',
    "time": (
        '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? '
        '("Z" | [\\x2B\\x2D] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])'
    ),
    "date-time": 'format-date "T" format-time',
    "duration": (
        '"P" (format-count "W" | format-count "Y" (format-count "M" (format-count "D")?)? '
        '("T" format-clock)? | format-count "D" ("T" format-clock)? | "T" format-clock)'
    ),
    "uuid": '[0-9a-f]{8} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{12}',
    "email": (
        '[a-z0-9]{1,16} ([._\\x2B\\x2D] [a-z0-9]{1,16}){0,3} "@" '
        'format-label ("." format-label){0,2} "." [a-z]{2,8}'
    ),
    "hostname": 'format-label ("." format-label){0,4}',
    "ipv4": 'format-octet ("." format-octet){3}',
    "ipv6": '[0-9a-f]{1,4} (":" [0-9a-f]{1,4}){7}',
    "uri": (
        '"http" "s"? "://" format-hostname (":" [1-9] [0-9]{0,3})? ("/" [a-zA-Z0-9_.~\\x2D]{0,24}){0,8} '
        '("?" [a-z]{1,12} "=" [a-zA-Z0-9]{0,16} ("&" [a-z]{1,12} "=" [a-zA-Z0-9]{0,16}){0,4})? '
        '("#" [a-zA-Z0-9_\\x2D]{1,24})?'
    ),
}

# What those above refer to, under the names format-...
parts: dict[str, str] = {
    "day31": '("0" [13578] | "1" [02]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])',
    "day30": '("0" [469] | "11") "-" ("0" [1-9] | [12] [0-9] | "30")',
    "count": '"0" | [1-9] [0-9]{0,3}',
    "clock": (
        'format-count "H" (format-count "M" (format-count "S")?)? | format-count "M" (format-count "S")? | '
        'format-count "S"'
    ),
    "label": _LABEL,
    "octet": '"25" [0-5] | "2" [0-4] [0-9] | "1" [0-9]{2} | [1-9]? [0-9]',
}


def add_to(grammar: dict[str, str], name: str) -> str:
    """Adds the rule of a format, and those that it needs, to a grammar; returns the rule's name."""
    rule = f"format-{name}"
    if rule not in grammar:
        grammar[rule] = text = rules[name] if name in rules else parts[name]
        for other in (*rules, *parts):
            if f"format-{other}" in text:
                add_to(grammar, other)
    return rule
