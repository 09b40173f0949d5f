"""Every sentence about the findings, in Korean: the mirror of en, function by function.

Particles follow the sound that a word ends in, so that labels and numbers read as they are spoken.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from analysis.findings.facts import (
    Aim,
    Answer,
    Certainty,
    Collapsed,
    Comparison,
    Contrast,
    Costs,
    CutTexts,
    Differs,
    DisturbedTiming,
    Finding,
    Findings,
    Limit,
    MissingSeeds,
    NewerRecords,
    NotAsAsked,
    OneAfterTheOther,
    OneSeed,
    OtherBatch,
    SameTraining,
    SeveralCommits,
    SeveralDevices,
    SharedGpu,
    SpeedShift,
    Standing,
    StillRunning,
    UncommittedCode,
)
from analysis.words.numbers import number, rounded, short, signed
from analysis.words.texts import STATUSES

FEW = 4
"""Of more settings only the table gives each one's time."""

TITLES = {
    "fastest": "최고 속도",
    "least_memory": "최소 메모리",
    "best_quality": "최고 품질",
    "best_rouge_per_minute": "분당 ROUGE 최고",
    "best_rouge_per_gib": "GiB당 ROUGE 최고",
    "least_energy": "최소 에너지",
}
BEST = {
    "fastest": "가장 빠릅니다",
    "least_memory": "메모리를 가장 적게 씁니다",
    "best_quality": "ROUGE가 가장 높습니다",
    "best_rouge_per_minute": "분당 ROUGE 상승폭이 가장 큽니다",
    "best_rouge_per_gib": "GiB당 ROUGE가 가장 높습니다",
    "least_energy": "에너지를 가장 적게 씁니다",
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
    "threads": "스레드 수",
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
        case "one training":
            return "같은 학습이므로 품질로 순위를 매기지 않습니다."
        case "tied":
            tied = particle(_list(finding.tied), "이", "가")
            return f"{tied} 똑같이 가장 좋습니다: {_value(aim, ranking[0])}."
        case "alone":
            return (
                f"값이 있는 설정은 {ranking[0].label}뿐이어서({_value(aim, ranking[0])}) 비교할 "
                "대상이 없습니다."
            )
    first, following = ranking[0], ranking[1]
    seen = "" if finding.certainty == "yes" else "관측된 값으로는 "
    return (
        f"{seen}{particle(first.label, '이', '가')} {BEST[aim.key]}: {_value(aim, first)}. "
        f"{_distance(finding, first, following)}"
    )


def reason(finding: Finding) -> str:
    """All about one aim: the choice, how far the data tell it from the others, what failed."""
    return " ".join([in_one_sentence(finding), *details(finding), *notes(finding)])


def details(finding: Finding) -> list[str]:
    """How far the data tell the choice from the others, with intervals and p-values."""
    if finding.outcome != "ranked":
        return []
    sentences = list(_noise(finding))
    if finding.aim.key == "best_quality" and finding.choice is None:
        sentences.append("품질은 어느 하나를 고를 근거가 되지 않습니다.")
    return sentences


def notes(finding: Finding) -> list[str]:
    """Which settings and runs do not count for an aim, and why."""
    sentences = []
    if finding.left_out and finding.outcome != "blocked":
        differ = particle(_list(FACTS.get(key, key) for key in finding.blocks), "이", "가")
        names = particle(_list(finding.left_out), "은", "는")
        sentences.append(f"{names} {differ} 달라 순위에서 제외했습니다.")
    if finding.untrusted:
        names = particle(_list(finding.untrusted), "은", "는")
        sentences.append(f"{names} 모든 실행의 시간 측정이 방해를 받아 제외했습니다.")
    if finding.unfinished:
        listed = _list(f"{_status(status)} {count}개" for status, count in finding.unfinished)
        sentences.append(
            f"이 설정의 실행 {finding.runs}개 가운데 완료되지 않은 것이 있습니다({listed})."
        )
    return sentences


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


def answer(comparison: Comparison) -> tuple[str, ...]:
    """What to use, in numbers; every second part is to stand out."""
    found = comparison.answer
    if found is None or found.choice is None or found.runner_up is None:
        return _no_answer(comparison)
    name, other = found.choice.label, found.runner_up
    peak = found.choice.memory
    size = f" 메모리는 {number(peak.mean, 2)} GiB입니다." if peak else ""
    parts: tuple[str, ...]
    if found.alike and found.certainty == "no":
        least = " 그중 메모리를 가장 적게 씁니다." if found.leanest else ""
        parts = (
            "지금까지의 실행에서 ",
            name,
            f"보다 빠르다고 확인된 설정은 없습니다.{size} "
            f"{_list(map(short, found.alike))}도 그만큼 빠를 수 있습니다.{least}",
        )
    elif found.certainty == "yes":
        parts = (
            "",
            f"{particle(name, '을', '를')} 권합니다.",
            f" {short(other.second)}보다 {_faster(other, size)}{size}",
        )
    else:
        parts = (
            "한 번씩만 실행한 결과로는 ",
            f"{particle(name, '이', '가')} 가장 빠릅니다.",
            f" {short(other.second)}보다 {_faster(other, size)}{size} 다만 "
            "반복 실행하기 전에는 결론을 낼 수 없습니다.",
        )
    more = [_lean(found), _quality_in_short(comparison)]
    return (*parts[:-1], " ".join([parts[-1], *filter(None, more)]))


def _no_answer(comparison: Comparison) -> tuple[str, ...]:
    """What to say where no two settings can be compared by speed."""
    completed = [row for row in comparison.rows if row.completed]
    fastest, memory = comparison.finding("fastest"), comparison.finding("least_memory")
    if not completed:
        return ("완료된 실행이 없어 권할 설정이 없습니다.",)
    if len(completed) == 1:
        row = completed[0]
        size = f", {number(row.memory.mean, 2)} GiB" if row.memory else ""
        speed = f"({number(row.speed.mean)} 스텝/초{size})" if row.speed else ""
        return ("", row.label, f"만 완료되어{speed} 비교할 대상이 없습니다.")
    sentences = ["속도를 기준으로 권할 설정이 없습니다."]
    if fastest.untrusted and not fastest.ranking:
        sentences.append(
            "모든 실행의 시간 측정이 방해를 받았습니다. 다른 작업이 없을 때 다시 실행하세요."
        )
    else:
        sentences.append(" ".join([in_one_sentence(fastest), *notes(fastest)]))
    if memory.outcome == "ranked" and memory.certainty != "no":
        sentences.append(in_one_sentence(memory))
    return (" ".join(sentences),)


def _lean(found: Answer) -> str:
    if found.lean is None or found.lean_memory is None:
        return ""
    name = particle(short(found.lean.label), "을", "를")
    less = _percent_of(1 - found.lean_memory.estimate)
    slower = found.lean_speed
    start = f"메모리가 부족하면 {name} 쓰세요. 메모리는 {less} 적게"
    if slower is None:
        return f"{start} 듭니다."
    if not slower.apart and slower.over_runs:
        return f"{start} 들고 속도 차이는 확인되지 않았습니다."
    word = "느립니다" if slower.estimate < 1 else "빠릅니다"
    return f"{start} 들고 속도는 {_percent_of(abs(slower.estimate - 1))} {word}."


def _quality_in_short(comparison: Comparison) -> str:
    trained, check = comparison.same_training, comparison.quality
    if trained.verified is False:
        return "verify.json에 따르면 서로 다른 학습이므로 품질도 함께 비교하세요."
    if check.gap is not None:
        gap = number(100 * abs(check.gap.estimate), 2)
        return (
            f"먼저 품질을 확인하세요. {particle(short(check.gap.first), '이', '가')} "
            f"{short(check.gap.second)}보다 ROUGE {gap}점(100점 만점) 높으며, 시드 차이로는 "
            "설명되지 않습니다."
        )
    if trained.dropout == 0:
        return "같은 그래디언트로 학습하므로 품질은 선택 기준이 아닙니다."
    if trained.dropout:
        return (
            "드롭아웃 마스크만 다를 뿐 그래디언트의 기댓값이 같으므로 품질은 선택 기준이 아닙니다."
        )
    return "드롭아웃 마스크를 빼면 같은 그래디언트로 학습하므로 품질은 선택 기준이 아닙니다."


def quality_check(comparison: Comparison) -> str:
    """Whether settings that are one training came out alike."""
    trained, check = comparison.same_training, comparison.quality
    if not check.settings:
        return ""
    margin = f"ROUGE {100 * comparison.margin:g}점(100점 만점)"
    if trained.verified is False:
        return (
            "verify.json에 따르면 설정들은 서로 다른 학습입니다. 그래디언트 차이가 가장 큰 원소의 "
            f"{trained.difference or 0:.0e}배에 이릅니다."
        )
    sentences = [_as_one_training(trained)]
    match check.outcome:
        case "same":
            few = len(check.settings) <= FEW
            who = _list(check.settings) if few else f"설정 {len(check.settings)}개 모두"
            sentences.append(f"{who}의 품질은 {margin} 이내로 같습니다(TOST).")
        case "gap" if check.gap is not None:
            sentences.append(
                f"{particle(check.gap.first, '과', '와')} {check.gap.second}의 차이는 시드로 "
                f"설명되지 않습니다({_interval(check.gap)}). python -m batchopt.verify로 원인을 "
                "확인하세요."
            )
        case "open":
            sentences.append(
                f"시드 간 잡음을 넘는 ROUGE 차이는 없습니다. {margin} 이내로 같다는 것까지 확인된 "
                "것은 아닙니다."
            )
        case "one seed":
            sentences.append("시드가 하나뿐이어서 ROUGE가 다른지 알 수 없습니다.")
        case "not learnt":
            sentences.append(
                "ROUGE가 학습 전보다 높아지지 않아 설정에 대해 알려 주는 것이 없습니다."
            )
        case _:
            pass
    if check.unmeasured:
        sentences.append(f"품질을 측정하지 못한 설정: {_list(check.unmeasured)}.")
    return " ".join(sentences)


def _as_one_training(trained: SameTraining) -> str:
    """How far the settings are one training, as the files say it."""
    if trained.dropout == 0:
        known = "설정들은 반올림 오차를 빼면 같은 학습입니다"
    elif trained.dropout:
        known = (
            "설정들은 그래디언트의 기댓값이 같고 드롭아웃 마스크만 다릅니다(드롭아웃 "
            f"{trained.dropout:g}). 설정 간 차이는 시드 간 차이와 같은 성질입니다"
        )
    else:
        known = (
            "설정들은 그래디언트의 기댓값이 같습니다. 모델에 드롭아웃이 있는지는 기록되지 "
            "않았습니다"
        )
    sentences = [f"{known}."]
    if trained.verified:
        sentences.append(
            "verify.json으로 드롭아웃을 끈 상태의 그래디언트가 "
            f"{trained.difference or 0:.0e} 이내로 같음을 확인했습니다."
        )
    return " ".join(sentences)


def beaten(comparison: Comparison) -> str:
    """Which settings are slower and larger than another, and which are left to choose from."""
    sentences = []
    for winner in dict.fromkeys(by for _, by in comparison.beaten):
        losers = [label for label, by in comparison.beaten if by == winner]
        sentences.append(
            f"{particle(_list(losers), '은', '는')} {winner}보다 느리고 메모리도 더 씁니다."
        )
    lost = dict(comparison.beaten)
    left = [row.label for row in comparison.rows if row.speed and row.label not in lost]
    if sentences and 1 < len(left) <= FEW:
        sentences.append(f"{_list(left)} 가운데 고르세요.")
    return " ".join(sentences)


def convergence(comparison: Comparison) -> str:
    """When the training reaches its target with each setting."""
    steps, target = comparison.steps_to_target, comparison.target
    if steps is None or target is None:
        return ""
    times = [
        f"{row.label} {duration(row.time_to_target_s)}"
        for row in comparison.rows
        if row.time_to_target_s is not None
    ]
    text = (
        f"평균 곡선 최고값의 95%인 ROUGE F1 {number(target)}에는 모든 실행의 평균으로 "
        f"{steps:,.0f}스텝 뒤에 이릅니다."
    )
    return f"{text} 걸리는 시간: {_list(times)}." if 0 < len(times) <= FEW else text


def trainings(finding: Finding) -> str:
    """Which of several trainings came out best."""
    return f"서로 다른 학습끼리 비교하면: {reason(finding)}"


def unfinished(count: int) -> str:
    """That runs of a sweep are to be finished, before the command that does it."""
    return f"실행 {count}개가 완료되지 않았습니다. 다음 명령으로 마저 실행합니다:"


_CAUSES: tuple[tuple[str, str], ...] = (
    (r"never started", "시작하지 않았습니다"),
    (r"it left no record", "기록을 남기지 않았습니다"),
    (
        r"the process that supervised the run ended without a record",
        "실행을 감독하던 프로세스가 기록을 남기지 못하고 끝났습니다",
    ),
    (
        r"no sign of life from (\S+) for (\d+) min",
        r"\2분 동안 \1에서 아무 신호가 없었습니다",
    ),
    (r"since (\S+) on (\S+), process (\d+)", r"\2에서 \1부터 실행 중입니다(프로세스 \3)"),
    (
        r".*out of memory.*tried to allocate ([\d.,]+ ?[KMGT]i?B).*",
        r"메모리가 부족합니다(\1를 할당하려다 실패)",
    ),
    (r".*(?:OOM killer).*", "커널의 OOM killer가 프로세스를 종료했습니다"),
    (r".*(?:out of memory|memory_limit_gib).*", "메모리가 부족합니다"),
    (r"longer than run\.timeout_min=([\d.e+]+).*", r"run.timeout_min=\1보다 오래 걸렸습니다"),
    (
        r"no progress for run\.stall_min=([\d.e+]+) minutes.*",
        r"run.stall_min=\1분 동안 진행이 없었습니다",
    ),
    (r"the GPU was lost.*", "GPU를 잃었습니다"),
    (r"stopped by (\S+?);.*", r"\1로 중단되었습니다"),
    (r"the training process crashed \((\w+)\).*", r"학습 프로세스가 비정상 종료되었습니다(\1)"),
    (
        r"the training process was ended from outside \((\w+)\).*",
        r"학습 프로세스가 외부에서 강제 종료되었습니다(\1)",
    ),
    (
        r"the training process ended with exit code (\d+).*",
        r"학습 프로세스가 결과를 남기지 않고 종료 코드 \1로 끝났습니다",
    ),
    (
        r"another process(?: \(pid \d+\))? used the \w+ in (.+?) ?% of the samples",
        r"표본의 \1%에서 다른 프로세스가 같은 장치를 사용함",
    ),
    (r"another process.*", "다른 프로세스가 같은 장치를 사용함"),
    (
        r"the device throttled \((\w+)\) in (.+?) ?% of the samples",
        r"표본의 \2%에서 장치 클록이 제한됨(\1)",
    ),
    (r"the device throttled.*", "장치 클록이 제한됨"),
    (
        r"other processes used ([\d.]+) of (\d+) CPU cores while the run trained(?: \(.*\))?",
        r"학습 중 다른 프로세스가 CPU 코어 \2개 가운데 \1개를 사용함",
    ),
    (r"other (?:work|processes).*", "다른 작업이 CPU를 사용함"),
)
"""What batchopt writes into a record, by pattern; what Python or a library wrote is not here."""


def cause(text: str) -> str | None:
    """Why a run ended, in this language; None where only the record says it."""
    for pattern, korean in _CAUSES:
        if found := re.fullmatch(pattern, text, re.IGNORECASE | re.DOTALL):
            return found.expand(korean)
    return None


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
        f"{rounded(found.break_even_steps)}스텝을 넘게 학습하면 실행에 들인 시간을 되찾습니다."
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
    beaten,
    quality_check,
    convergence,
    budget,
    payback,
    batch_size,
)


def limits(findings: Findings) -> list[str]:
    """Everything that limits what the runs can show."""
    found = [*findings.limits, *(one for part in findings.comparisons for one in part.limits)]
    return list(dict.fromkeys(limit(one) for one in found))


def limit(found: Limit) -> str:  # noqa: PLR0911, PLR0912 (one case a kind)
    """One thing that limits what the runs can show."""
    match found:
        case MissingSeeds(label, missing):
            listed = _list(map(str, missing))
            return (
                f"{particle(label, '은', '는')} 시드 {listed}에서 완료되지 않아, 함께 완료된 "
                "시드로만 비교합니다."
            )
        case SpeedShift(run_dir, moment, change):
            word = "느려졌습니다" if change < 0 else "빨라졌습니다"
            return (
                f"{moment}({run_dir})부터 모든 설정에서 장치가 그전보다 "
                f"{_percent_of(abs(change))} {word}."
            )
        case OneAfterTheOther():
            return (
                "설정을 하나씩 차례로 실행했으므로 그사이 장치 속도가 변하면 설정의 차이처럼 "
                "보입니다. 속도 차이는 일정한 속도 변화를 보정한 값입니다. sweep.order=blocked로 "
                "실행하면 설정들이 번갈아 실행됩니다."
            )
        case Collapsed(label, seeds, best, last):
            return (
                f"{label}, 시드 {_list(map(str, seeds))}의 ROUGE F1은 최고 평가 뒤 "
                f"{number(best)}에서 {particle(number(last), '으로', '로')} 떨어졌습니다. "
                "분당 ROUGE는 실패한 학습의 값입니다."
            )
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
        case DisturbedTiming(label, seeds, reasons):
            why = "; ".join(cause(one) or "다른 방해 요인" for one in reasons)
            return (
                f"{label}, 시드 {_list(map(str, seeds))}의 시간 측정이 방해를 받아({why}) 순위에서 "
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
        test = f"공통 시드 {first.seeds}개" if first.paired else "Welch"
        if first.drift_corrected:
            test = "장치의 일정한 속도 변화를 보정"
        yield (
            f"{particle(first.second, '과', '와')} 견주면 {_interval(first)}입니다({test}, Holm "
            f"보정 후 {_p(first.p_value)})."
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
            yield f"같은 예제를 쓴 스텝끼리 {second} 견주면 {_interval(single[0])}입니다."
        yield "설정마다 한 번만 실행해 실행 간 차이를 알 수 없습니다."
        if near:
            yield f"{_list(near)}도 그만큼 좋을 수 있습니다."


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


def _faster(contrast: Contrast, more: str) -> str:
    """How much faster, as the end of a sentence, or as its middle where `more` follows."""
    endings = ("빠르고", "느리고") if more else ("빠릅니다.", "느립니다.")
    share = _percent_of(abs(contrast.estimate - 1))
    return f"{share} {endings[contrast.estimate < 1]}"


def _percent_of(share: float) -> str:
    return f"{number(100 * share, 2)}%"


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


def _distance(finding: Finding, first: Standing, following: Standing) -> str:
    """How far the next setting is, over what both share; for quality as a difference."""
    contrast = next(one for one in finding.contrasts if one.second == following.label)
    shown = f"그다음인 {following.label} [{number(following.mean)}]보다"
    if contrast.scale == "difference":
        word = "높습니다" if contrast.estimate >= 0 else "낮습니다"
        return f"{shown} {number(abs(contrast.estimate), 2)} {word}."
    key = finding.aim.key
    more, less = {
        "fastest": ("빠릅니다", "느립니다"),
        "least_memory": ("많습니다", "적습니다"),
        "least_energy": ("많습니다", "적습니다"),
    }.get(key, ("높습니다", "낮습니다"))
    word = more if contrast.estimate >= 1 else less
    return f"{shown} {_percent_of(abs(contrast.estimate - 1))} {word}."


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
