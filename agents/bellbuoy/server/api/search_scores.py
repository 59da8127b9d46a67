"""How well a text matches what somebody typed, from 0 (not) to 1: the scores that Prometheus's search documents.

*Substring*: 1 at the start, less the further behind. *Subsequence*: all letters in order; runs of letters count by
their square, gaps cost. *Jaro-Winkler*: letters near their places, a common beginning counts more.
"""

from collections.abc import Callable

# What is not the very text stays below 1, however it is rounded.
_NOT_EXACT = 0.999
Score = Callable[[str], float]


def substring(term: str, text: str) -> float:
    """0 where it is not in the text."""
    at = text.find(term)
    if at <= 0:
        return 1.0 if at == 0 else 0.0
    return 1.0 - 0.9 * at / (len(text) - len(term))


def subsequence(term: str, text: str) -> float:
    """The best over all places where the first letter stands."""
    if text.startswith(term):
        return 1.0
    best = -1.0
    start = text.find(term[0], 0, len(text) - len(term) + 1)
    while start >= 0:
        score = _from(term, text, start)
        if score is None:
            break  # what cannot be completed from here cannot be from further on
        best = max(best, score)
        start = text.find(term[0], start + 1, len(text) - len(term) + 1)
    return best / len(term) ** 2 * _NOT_EXACT if best > 0 else 0.0


def _from(term: str, text: str, at: int) -> float | None:
    score, done, before = 0.0, 0, -1
    while done < len(term):
        first = text.find(term[done], at)
        if first < 0:
            return None
        at, run = first, 0
        while done < len(term) and at < len(text) and text[at] == term[done]:
            at, done, run = at + 1, done + 1, run + 1
        score += run * run - (first - before - 1) / len(text)
        before = at - 1
    return score - (len(text) - 1 - before) / len(text) * 0.5


def jaro_winkler(term: str, text: str) -> float:
    """1 for equal texts."""
    if term == text:
        return 1.0
    short, long = sorted((term, text), key=len)
    if not short:
        return 0.0
    reach = max(len(long) // 2 - 1, 0)
    taken = [False] * len(long)
    matched: list[str] = []
    for at, letter in enumerate(short):
        for other in range(max(at - reach, 0), min(at + reach + 1, len(long))):
            if not taken[other] and long[other] == letter:
                taken[other] = True
                matched.append(letter)
                break
    if not matched:
        return 0.0
    partners = [letter for letter, is_taken in zip(long, taken, strict=True) if is_taken]
    swapped = sum(a != b for a, b in zip(matched, partners, strict=True))
    count = len(matched)
    jaro = (count / len(short) + count / len(long) + (count - swapped / 2) / count) / 3
    prefix = next((at for at in range(min(4, len(short))) if short[at] != long[at]), min(4, len(short)))
    return jaro + prefix * 0.1 * (1 - jaro)


def scorer(terms: list[str], *, algorithm: str, threshold: float, case_sensitive: bool) -> Score | None:
    """The best score over all terms; below the threshold it is 0. None when nothing was typed."""
    words = [term if case_sensitive else term.lower() for term in terms if term]
    if not words:
        return None

    def one(term: str, text: str) -> float:
        if algorithm == "subsequence":
            score = subsequence(term, text)
            return score if score >= threshold else 0.0
        found = substring(term, text)
        if found or not threshold:
            return found
        score = jaro_winkler(term, text)
        return score if score >= threshold else 0.0

    def score(text: str) -> float:
        shown = text if case_sensitive else text.lower()
        return max(one(term, shown) for term in words)

    return score
