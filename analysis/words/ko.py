"""Every sentence about the findings, in Korean: the mirror of en, function by function.

Particles follow the sound that a word ends in, so that labels and numbers read as they are spoken.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from analysis.findings.facts import (
    Aim,
    Certainty,
    Comparison,
    Contrast,
    Costs,
    CutTexts,
    Differs,
    DisturbedTiming,
    Finding,
    Findings,
    Limit,
    NewerRecords,
    NotAsAsked,
    OneSeed,
    OtherBatch,
    SeveralCommits,
    SeveralDevices,
    SharedGpu,
    Standing,
    StillRunning,
    UncommittedCode,
)
from analysis.words.numbers import number, signed
from analysis.words.texts import STATUSES

TITLES = {
    "fastest": "최고 속도",
    "least_memory": "최소 메모리",
    "best_quality": "최고 품질",
    "best_rouge_per_minute": "분당 ROUGE 최고",
    "best_rouge_per_gib": "GiB당 ROUGE 최고",
    "least_energy": "최소 에너지",
}
UNITS = {
    "fastest": "옵티마이저 스텝/초",
    "least_memory": "GiB",
    "best_quality": "ROUGE F1",
    "best_rouge_per_minute": "ROUGE F1/분",
    "best_rouge_per_gib": "ROUGE F1/GiB",
    "least_energy": "Wh",
}
FACTS = {
    "device": "장치",
    "device_kind": "장치 종류",
    "machine": "컴퓨터",
    "cpu_count": "CPU 코어 수",
    "precision": "정밀도",
    "driver": "드라이버",
    "python": "Python 버전",
    "packages": "라이브러리 버전",
    "model": "모델",
    "data": "학습 데이터",
    "memory_source": "메모리 측정 방식",
    "rouge_tokenizer": "ROUGE 토크나이저",
}
_CERTAINTY: Mapping[Certainty, str] = {"yes": "확실", "single runs": "단일 실행", "no": "미정"}

_ENDS_IN_CONSONANT = frozenset("013678lmnr")
"""Digits and letters by their Korean names: 영, 일, 삼, 육, 칠, 팔; 엘, 엠, 엔, 알."""


def particle(word: str, after_consonant: str, after_vowel: str) -> str:
    """The word with the form of a particle that its last sound asks for.

    What stands in brackets at the end is not counted, as usual: "05a (8 × 8)" is read to "05a".
    """
    spoken = re.sub(r"(\s*[(\[][^()\[\]]*[)\]])+$", "", word).rstrip(" .\"'%") or word
    last = spoken[-1].lower()
    is_hangul = "가" <= last <= "힣"
    closed = (ord(last) - ord("가")) % 28 > 0 if is_hangul else last in _ENDS_IN_CONSONANT
    return word + (after_consonant if closed else after_vowel)


def aim_title(key: str) -> str:
    """What an aim is called."""
    return TITLES[key]


def aim_unit(key: str) -> str:
    """The unit of the column that measures an aim."""
    return UNITS[key]


def certainty(value: Certainty) -> str:
    """How sure a choice is, in a word or two."""
    return _CERTAINTY[value]


def facets(comparison: Comparison) -> str:
    """What sets a comparison apart from the others of the report."""
    return ", ".join(f"{key} = {value}" for key, value in comparison.facets)


def in_one_sentence(finding: Finding) -> str:
    """The choice and its numbers, or why there is none."""
    aim, ranking = finding.aim, finding.ranking
    match finding.outcome:
        case "not measured":
            return "비교할 수 있는 실행 가운데 이 값을 측정한 것이 없습니다."
        case "blocked":
            names = _list(FACTS.get(key, key) for key in finding.blocks)
            return f"{particle(names, '이', '가')} 실행마다 달라 순위를 매기지 않았습니다."
        case "tied":
            tied = particle(_list(finding.tied), "이", "가")
            return f"{tied} 똑같이 가장 좋습니다: {_value(aim, ranking[0])}."
        case "alone":
            return (
                f"값이 있는 설정은 {ranking[0].label}뿐이어서({_value(aim, ranking[0])}) 비교할 "
                "대상이 없습니다."
            )
    best = "높습니다" if aim.higher_is_better else "낮습니다"
    seen = "" if finding.certainty == "yes" else "관측된 값으로는 "
    first, following = ranking[0], ranking[1]
    return (
        f"{seen}{particle(first.label, '이', '가')} 가장 {best}: {_value(aim, first)}. "
        f"{_distance(aim, first, following)}"
    )


def reason(finding: Finding) -> str:
    """All about one aim: the choice, how far the data tell it from the others, what failed."""
    sentences = [in_one_sentence(finding)]
    if finding.outcome == "ranked":
        sentences += _noise(finding)
        if finding.aim.key == "best_quality" and finding.choice is None:
            sentences.append("품질은 어느 하나를 고를 근거가 되지 않습니다.")
    if finding.untrusted:
        names = particle(_list(finding.untrusted), "은", "는")
        sentences.append(f"{names} 모든 실행의 시간 측정이 방해를 받아 제외했습니다.")
    if finding.unfinished:
        listed = _list(f"{_status(status)} {count}개" for status, count in finding.unfinished)
        sentences.append(
            f"이 설정의 실행 {finding.runs}개 가운데 완료되지 않은 것이 있습니다({listed})."
        )
    return " ".join(sentences)


def more_seeds(finding: Finding) -> str:
    """What would decide an aim that is not decided."""
    needed = finding.more_seeds
    if needed is None:
        return ""
    if needed.examples is not None:
        return (
            "시드만 늘려서는 결론이 나지 않습니다. 검증 데이터가 너무 적으며, 예제가 약 "
            f"{needed.examples:,}개는 있어야 합니다."
        )
    if not needed.variance_known:
        return f"실행 간 변동을 알려면 시드가 {needed.more or 0}개 더 필요합니다."
    if needed.more is None:
        return f"지금의 잡음 수준에서는 시드를 {needed.limit}개까지 늘려도 결론이 나지 않습니다."
    return (
        f"지금의 잡음 수준에서는 시드를 {needed.more}개쯤 더 돌리면 결론이 날 것입니다(모두 "
        f"{needed.need}개, 검정력 80%)."
    )


def equivalence(comparison: Comparison) -> str:
    """Which settings have the same quality."""
    tested = [contrast for contrast in comparison.quality if contrast.equivalent is not None]
    same = [contrast for contrast in tested if contrast.equivalent]
    if not tested:
        return ""
    margin = f"ROUGE {100 * comparison.margin:g}점(100점 만점) 이내"
    if not same:
        return f"품질이 {margin}로 같다고 확인된 설정은 없습니다(TOST)."
    if len(same) == len(comparison.quality):
        return f"모든 설정의 품질이 {margin}로 같습니다(TOST, Holm 보정)."
    pairs = "; ".join(f"{one.first} – {one.second}" for one in same)
    return f"품질이 {margin}로 같은 설정(TOST, Holm 보정): {pairs}."


def knee(comparison: Comparison) -> str:
    """Which of the nearly fastest settings takes the least memory."""
    if comparison.knee is None:
        return ""
    found = comparison.knee
    within = f"{number(100 * found.tolerance, 1)}%"
    if found.choice.label == found.fastest.label:
        return (
            f"속도가 가장 빠른 설정의 {within} 이내이면서 메모리를 덜 쓰는 설정은 없습니다. 가장 "
            f"빠른 설정: {_costs(found.fastest)}."
        )
    return (
        f"속도가 가장 빠른 설정의 {within} 이내인 것 가운데 메모리를 가장 적게 쓰는 설정: "
        f"{_costs(found.choice)}. 가장 빠른 설정: {_costs(found.fastest)}."
    )


def budget(comparison: Comparison) -> str:
    """Which setting is best within a memory budget."""
    if comparison.budget is None:
        return ""
    found = comparison.budget
    limit = f"{found.gib:g} GiB"
    if found.choice is None:
        return f"{limit}에 들어가는 설정이 없습니다."
    text = f"{limit}에 들어가는 설정 {found.fitting}개 가운데 가장 빠른 것: {_costs(found.choice)}."
    if found.too_large:
        text += f" 너무 큰 설정: {_list(map(_costs, found.too_large))}."
    if found.out_of_memory:
        text += f" 측정할 때 메모리가 부족했던 설정: {_list(found.out_of_memory)}."
    return text


def payback(comparison: Comparison) -> str:
    """Whether measuring paid."""
    if comparison.payback is None:
        return ""
    found = comparison.payback
    return (
        f"모든 실행에 {particle(duration(found.cost_s), '이', '가')} 걸렸습니다. "
        f"{particle(found.choice, '을', '를')} 쓰면 옵티마이저 스텝 1,000회마다 전체 설정의 "
        f"평균보다 {particle(duration(found.saving_s), '을', '를')}, 가장 느린 설정보다 "
        f"{particle(duration(found.most_s), '을', '를')} 아끼므로, "
        f"{found.break_even_steps:,.0f}스텝을 넘게 학습하면 실행에 들인 시간을 되찾습니다."
    )


def batch_size(comparison: Comparison) -> str:
    """How the effective batch lies to the gradient noise scale."""
    found = comparison.batch_size
    if found is None:
        return ""
    count = f"실행 {found.runs}개의 중앙값, 마지막 스텝들 기준"
    scale = number(found.noise_scale, 2)
    seen = (
        f"그래디언트 노이즈 스케일은 많아야 예제 {scale}개였습니다({count}; 마이크로배치를 길이로 "
        "나누었으므로 상한입니다)."
        if found.upper_bound
        else f"그래디언트 노이즈 스케일은 예제 {scale}개였습니다({count})."
    )
    batch = particle(str(found.batch), "은", "는")
    verdict = {
        "large": f"유효 배치 {batch} 이 학습 단계에는 커 보입니다. 더 줄여도 필요한 옵티마이저 "
        "스텝은 거의 늘지 않을 것입니다.",
        "small": f"유효 배치 {batch} 이 학습 단계에는 작아 보입니다. 키우면 필요한 옵티마이저 "
        "스텝이 뚜렷하게 줄어들 것입니다.",
        "neither": f"유효 배치 {batch} 그와 비슷한 크기로, 작지도 크지도 않습니다.",
        "open": f"{particle(str(found.batch), '이', '가')} 너무 작은지는 이것으로 알 수 없습니다. "
        "batch.packing=none으로 실행하면 알 수 있습니다.",
    }
    return f"{seen} {verdict[found.verdict]}"


def decisions(comparison: Comparison) -> list[str]:
    """What follows beyond the single aims."""
    return list(filter(None, (one(comparison) for one in DECISIONS)))


DECISIONS: Sequence[Callable[[Comparison], str]] = (
    equivalence,
    knee,
    budget,
    payback,
    batch_size,
)


def limits(findings: Findings) -> list[str]:
    """Everything that limits what the runs can show."""
    found = [*findings.limits, *(one for part in findings.comparisons for one in part.limits)]
    return list(dict.fromkeys(limit(one) for one in found))


def limit(found: Limit) -> str:  # noqa: PLR0911 (one case a kind)
    """One thing that limits what the runs can show."""
    match found:
        case StillRunning(count, planned):
            return (
                f"실행 {planned}개 가운데 {count}개가 아직 진행 중이므로 이 보고서는 최종 결과가 "
                "아닙니다."
            )
        case NewerRecords(count, newest, known):
            return (
                f"기록 {count}개가 더 새로운 batchopt의 것이어서(schema_version {newest}, 이 "
                f"분석이 아는 버전은 {known}) 모르는 항목은 제외했습니다."
            )
        case OtherBatch(label, size, reference):
            return (
                f"{particle(label, '은', '는')} 유효 배치가 {size}, 나머지 대부분은 {reference}"
                "입니다. 스텝의 내용이 다르므로 함께 순위를 매기지 않았습니다."
            )
        case Differs(fact, holders):
            listed = "; ".join(f"{value}: {_list(who)}" for value, who in holders)
            what = particle(FACTS.get(fact, fact), "이", "가")
            return (
                f"실행마다 {what} 다릅니다({listed}). 이에 좌우되는 값은 순위를 매기지 않았습니다."
            )
        case OneSeed(names, everyone):
            who = "모든 설정이" if everyone else particle(_list(names), "이", "가")
            return f"{who} 시드 하나로만 완료되어, 품질 차이를 시드 간 잡음과 구별할 수 없습니다."
        case SeveralDevices(kind, count):
            what = f"GPU {count}개" if kind == "gpus" else f"컴퓨터 {count}대"
            return f"같은 종류의 {what}에서 실행했으며, 장치마다 속도가 조금씩 다를 수 있습니다."
        case SharedGpu(label, seed, gib):
            return (
                f"{label}, 시드 {seed}의 GPU는 실행 전에 이미 {number(gib)} GiB가 사용 "
                "중이었습니다. 다른 작업과 함께 쓰였다면 속도와 메모리는 이 실행만의 값이 아닙니다."
            )
        case DisturbedTiming(label, seed, reasons):
            return (
                f"{label}, 시드 {seed}의 시간 측정이 방해를 받아({'; '.join(reasons)}) 순위에서 "
                "제외했습니다."
            )
        case NotAsAsked(label, seed, asked, got):
            return (
                f"{label}, 시드 {seed}는 요청과 다르게 실행되었습니다. 요청: {asked}, 실제: {got}."
            )
        case SeveralCommits(count):
            return f"실행들이 서로 다른 커밋 {count}개에서 나왔습니다."
        case UncommittedCode():
            return "일부 실행은 커밋되지 않은 변경이 있는 코드에서 나왔습니다."
        case CutTexts(count):
            return f"토큰 수 제한보다 긴 텍스트 {count}개가 잘렸습니다."


def duration(seconds: float) -> str:
    """A time as a person says it."""
    for unit, size in (("시간", 3600), ("분", 60)):
        if seconds >= size:
            return f"{number(seconds / size)}{unit}"
    return f"{number(seconds)}초"


def _noise(finding: Finding) -> Iterable[str]:
    """Sentences about how far the data tell the first setting from the others."""
    between = [contrast for contrast in finding.contrasts if contrast.over_runs]
    single = [contrast for contrast in finding.contrasts if not contrast.over_runs]
    if between:
        first = between[0]
        overlap = "겹칩니다" if first.ranges_overlap else "겹치지 않습니다"
        test = "시드별 짝 비교" if first.paired else "Welch"
        yield (
            f"{particle(first.second, '과', '와')} 견주면 {_interval(first)}입니다({test}, Holm "
            f"보정 후 {_p(first.p_value)}). 두 설정의 실행 값 범위는 {overlap}."
        )
    noise = [contrast for contrast in between if not contrast.apart]
    same = [contrast.second for contrast in noise if contrast.equivalent]
    if same:
        yield f"{particle(_list(same), '과는', '와는')} 허용 범위 안에서 같습니다."
    open_ones = [contrast.second for contrast in noise if not contrast.equivalent]
    if open_ones:
        yield f"이 데이터로는 {particle(_list(open_ones), '과', '와')} 구별할 수 없습니다."
    names = _list(contrast.second for contrast in single)
    if single and finding.aim.of_quality:
        yield (
            f"시드가 하나뿐이어서 {particle(names, '과의', '와의')} 차이를 잡음과 구별할 수 "
            "없습니다."
        )
    elif single:
        near = [contrast.second for contrast in single if not contrast.apart]
        if single[0].within_runs:
            second = particle(single[0].second, "과", "와")
            yield f"실행 안의 변동만 보면 {second} 견주어 {_interval(single[0])}입니다."
        yield (
            f"{particle(names, '과', '와')} 비교할 때 한쪽의 실행이 하나뿐이어서 실행 간 변동은 "
            "알 수 "
            "없습니다." + (f" {_list(near)}도 그만큼 좋을 수 있습니다." if near else "")
        )


def _interval(contrast: Contrast) -> str:
    interval = contrast.interval
    assert interval is not None
    share = f"{number(100 * interval.confidence, 2)}%"
    if contrast.scale == "ratio":
        return (
            f"비율은 {number(interval.estimate)}배, {share} 구간은 {number(interval.low)}~"
            f"{number(interval.high)}배"
        )
    return (
        f"차이는 {signed(interval.estimate)}, {share} 구간은 {signed(interval.low)}~"
        f"{signed(interval.high)}"
    )


def _p(value: float | None) -> str:
    if value is None:
        return "p값 알 수 없음"
    return f"p = {number(min(value, 0.999), 2)}" if value >= 0.001 else "p < 0.001"


def _value(aim: Aim, standing: Standing) -> str:
    unit = aim_unit(aim.key)
    if standing.interval is None:
        return f"{number(standing.mean)} {unit}"
    low, high = number(standing.interval.low), number(standing.interval.high)
    return (
        f"{number(standing.mean)} {unit} ({len(standing.values)}회 평균, 95% 신뢰구간 {low}~{high})"
    )


def _distance(aim: Aim, first: Standing, following: Standing) -> str:
    """How far the next setting is: as a ratio, for quality as a difference."""
    shown = f"{following.label} [{number(following.mean)}]"
    if min(first.mean, following.mean) <= 0 or aim.key == "best_quality":
        word = "높습니다" if aim.higher_is_better else "낮습니다"
        return f"그다음인 {shown}보다 {number(abs(first.mean - following.mean), 2)} {word}."
    if aim.higher_is_better:
        return f"그다음인 {shown}의 {number(first.mean / following.mean)}배입니다."
    times = number(following.mean / first.mean)
    return f"그다음인 {particle(shown, '은', '는')} 그 {times}배입니다."


def _costs(costs: Costs) -> str:
    figures = [
        *([f"{number(costs.steps_per_second)} 스텝/초"] if costs.steps_per_second else []),
        *([f"{number(costs.peak_memory_gib)} GiB"] if costs.peak_memory_gib else []),
    ]
    return f"{costs.label} [{', '.join(figures)}]" if figures else costs.label


def _status(status: str) -> str:
    return STATUSES[status].ko


def _list(words: Iterable[str]) -> str:
    return ", ".join(words)
