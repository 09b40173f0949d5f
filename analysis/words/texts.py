"""Every label of figures, tables and the report, in English and in Korean side by side.

Sentences about findings are elsewhere (en, ko); these are headings, axes and notes.
"""

from typing import Literal, NamedTuple

Language = Literal["en", "ko"]


class Label(NamedTuple):
    """A text in each language, with the same {placeholders}."""

    en: str
    ko: str

    def say(self, language: Language, **values: object) -> str:
        """The text in a language, with its placeholders filled."""
        text = self.ko if language == "ko" else self.en
        return text.format(**values) if values else text


STATUSES = {
    "completed": Label("completed", "완료"),
    "oom": Label("oom", "메모리 부족(OOM)"),
    "failed": Label("failed", "실패"),
    "killed": Label("killed", "강제 종료"),
    "timeout": Label("timeout", "시간 초과"),
    "interrupted": Label("interrupted", "중단"),
    "running": Label("running", "실행 중"),
    "missing": Label("missing", "미실행"),
}

# Axes and titles of charts

SPEED = Label("speed (optimizer steps/s)", "속도 (옵티마이저 스텝/초)")
PEAK_MEMORY = Label("peak memory (GiB)", "최대 메모리 (GiB)")
MEMORY = Label("memory (GiB)", "메모리 (GiB)")
STEP = Label("optimizer step", "옵티마이저 스텝")
LOSS = Label("loss (nats/target token)", "손실 (nats/타깃 토큰)")
TRAIN_TIME = Label("training time (min)", "학습 시간 (분)")
RUN_TIME = Label("time since start (min)", "실행 후 경과 시간 (분)")
VALIDATION_ROUGE = Label("ROUGE F1 [{tokenizer}]", "ROUGE F1 [{tokenizer}]")
STEP_TIME = Label("time per optimizer step (ms)", "옵티마이저 스텝당 시간 (ms)")
PADDING = Label("padding (% of all tokens)", "패딩 (전체 토큰 중 %)")

MEMORY_VS_SPEED = Label("Memory against speed", "속도와 메모리")
LOSS_TITLE = Label("Training loss", "학습 손실")
ROUGE_TITLE = Label("Validation ROUGE", "검증 ROUGE")
MEMORY_TITLE = Label("Memory over time", "시간에 따른 메모리")
EFFICIENCY_TITLE = Label("ROUGE for training time", "학습 시간에 따른 ROUGE")
STEP_TIME_TITLE = Label("Where a step's time goes", "스텝 시간의 구성")
PADDING_TITLE = Label("Work spent on padding", "패딩이 차지하는 비중")

PARTS = {
    "data_wait_s": Label("waiting for data", "데이터 대기"),
    "forward_s": Label("forward", "순전파"),
    "backward_s": Label("backward", "역전파"),
    "optimizer_s": Label("optimizer", "옵티마이저"),
}

SEED = Label("seed {seed}", "시드 {seed}")
OUT_OF_MEMORY = Label("out of memory", "메모리 부족(OOM)")
UNTRUSTED = Label("timing not trusted", "시간 측정 신뢰 불가")
UNTRUSTED_KEY = Label("hollow: timing not trusted", "빈 표식: 시간 측정을 신뢰할 수 없음")
ENDED_KEY = Label("cross: did not complete", "X 표식: 완료되지 않은 실행")
TARGET = Label("{share} % of the best", "최고값의 {share}%")
NOT_MEASURED = Label("no run has measured this", "측정한 실행이 없음")
TOKENIZER_UNKNOWN = Label("tokenizer not recorded", "토크나이저 기록 없음")

# Heads of the results; a line may break where a heading does

HEAD_RUNS = Label("runs", "실행")
HEAD_SPEED_CHANGE = Label("speed against\n{baseline}", "{baseline}\n대비 속도")
HEAD_MEMORY_CHANGE = Label("memory against\n{baseline}", "{baseline}\n대비 메모리")
HEAD_FULL_TIME = Label("training time of\n{steps} steps", "{steps}스텝\n학습 시간")
HEAD_FULL_ENERGY = Label("their energy\n(Wh)", "그 에너지\n(Wh)")
HEAD_HEADROOM = Label("memory left\n(GiB)", "남는 메모리\n(GiB)")
HEAD_MEAN_MEMORY = Label("mean memory\n(GiB)", "평균 메모리\n(GiB)")
HEAD_TOTAL_TIME = Label("total\n(min)", "전체 시간\n(분)")
BASELINE = Label("baseline", "기준")
DISTURBED = Label("timing of {count} disturbed", "시간 측정 방해 {count}")
HEAD_SETTING = Label("setting", "설정")
HEAD_SEED = Label("seed", "시드")
HEAD_STATUS = Label("status", "상태")
HEAD_PEAK_MEMORY = Label("peak memory\n(GiB)", "최대 메모리\n(GiB)")
HEAD_PEAK_ALLOCATED = Label("peak allocated\n(GiB)", "최대 할당량\n(GiB)")
PARTS_TITLE = Label("What the peak memory is made of (GiB)", "최대 메모리의 구성 (GiB)")
PART_HEADS = (
    Label("trained\nparameters", "학습\n파라미터"),
    Label("all\nparameters", "전체\n파라미터"),
    Label("frozen\nweights", "고정\n가중치"),
    Label("trained\nweights", "학습\n가중치"),
    Label("gradients", "그래디언트"),
    Label("optimizer", "옵티마이저"),
    Label("libraries", "라이브러리"),
    Label("activations\nand rest", "활성값과\n나머지"),
    Label("peak", "최대"),
)
HEAD_STEPS = Label("optimizer\nsteps/s", "옵티마이저\n스텝/초")
HEAD_TOKENS = Label("tokens/s", "토큰/초")
HEAD_PADDING = Label("padding\n(%)", "패딩\n(%)")
HEAD_TRAIN_TIME = Label("training\n(min)", "학습 시간\n(분)")
HEAD_EVAL_LOSS = Label("eval loss\n(nats/token)", "검증 손실\n(nats/토큰)")
HEAD_BEST_ROUGE = Label("best ROUGE F1\n[{tokenizer}]", "최고 ROUGE F1\n[{tokenizer}]")
HEAD_TO_TARGET = Label("to target\n(min)", "목표 도달\n(분)")
HEAD_GAIN = Label("ROUGE F1 gain\nper min", "분당 ROUGE F1\n상승폭")
HEAD_PER_GIB = Label("ROUGE F1\nper GiB", "GiB당\nROUGE F1")
HEAD_ENERGY = Label("energy\n(Wh)", "에너지\n(Wh)")
HEAD_MFU = Label("MFU\n(%)", "MFU\n(%)")

# Notes

TABLE_NOTE = Label(
    "Means over runs with 95 % intervals; changes are over the seeds that both settings have. "
    "Marked: the best value, where the data decide it.",
    "실행 평균과 95% 구간이며, 기준 대비 변화는 두 설정에 공통인 시드로 계산했습니다. 강조 표시는 "
    "데이터로 확인된 최고값입니다.",
)
TABLE_CUT = Label(
    "The first {shown} of {all} rows; all are in batch_optimization_results.csv.",
    "전체 {all}행 중 처음 {shown}행. 전체는 batch_optimization_results.csv에 있습니다.",
)

# The report

TITLE = Label(
    "Batch size and gradient accumulation: report",
    "배치 크기와 그래디언트 누적: 실험 보고서",
)
IN_SHORT = Label("In short", "요약")
WHAT_WAS_RUN = Label("What was run", "실험 설정과 환경")
FIGURES = Label("Figures", "그림")
RUNS = Label("Every run", "모든 실행")
STATISTICS = Label("Tests and intervals", "검정과 구간")
FINDINGS = Label("Findings", "분석")
INCOMPLETE = Label("Runs that did not complete", "완료되지 않은 실행")
LIMITS = Label("Limits", "한계")
MEASURED = Label("How each number is measured", "측정 방법")
NEXT = Label("To go on", "다음 단계")

COMPLETED_OF = Label(
    "{completed} of {planned} planned runs completed.",
    "계획한 실행 {planned}개 가운데 {completed}개가 완료되었습니다.",
)

COMPARISONS_CUT = Label(
    "The first {shown} of {all} comparisons are told; all are in recommendation.json.",
    "비교 {all}개 가운데 처음 {shown}개만 실었습니다. 전체는 recommendation.json에 있습니다.",
)

HEAD_WHAT = Label("what", "항목")
HEAD_VALUE = Label("value", "값")
FACT_SWEEP = Label("sweep", "스윕")
FACT_COMMAND = Label("command", "명령")
FACT_RUNS = Label("runs", "실행")
FACT_DEVICE = Label("device", "장치")
FACT_DRIVER = Label("driver", "드라이버")
FACT_PRECISION = Label("precision", "정밀도")
FACT_HOST = Label("host", "호스트")
FACT_PLATFORM = Label("platform", "플랫폼")
FACT_PYTHON = Label("Python", "Python")
FACT_LIBRARIES = Label("libraries", "라이브러리")
FACT_COMMIT = Label("commit", "커밋")
FACT_MODEL = Label("model", "모델")
FACT_DATA = Label("data", "데이터")
FACT_TRAINING = Label("training", "학습")
FACT_SEEDS = Label("seeds", "시드")
PLANNED = Label("{count} planned: {listed}", "계획 {count}개: {listed}")
DIRTY = Label(" with changes", " (커밋되지 않은 변경 있음)")
PARAMETERS = Label("{count} parameters", "파라미터 {count}개")
TRAINED_PARAMETERS = Label("{count} of them trained", "그중 {count}개 학습")
DATA_KEYS = (
    "train_examples",
    "validation_examples",
    "max_source_length",
    "max_target_length",
    "skipped_rows",
    "truncated_sources",
    "truncated_targets",
)
DATA = Label(
    "{source}: {train_examples} training and {validation_examples} validation examples, at most "
    "{max_source_length} source and {max_target_length} target tokens; {skipped_rows} rows "
    "skipped, {truncated_sources} sources and {truncated_targets} targets cut",
    "{source}: 학습 예제 {train_examples}개, 검증 예제 {validation_examples}개, 입력 최대 "
    "{max_source_length}토큰, 타깃 최대 {max_target_length}토큰; 건너뛴 행 {skipped_rows}개, 잘린 "
    "입력 {truncated_sources}개, 잘린 타깃 {truncated_targets}개",
)
TRAINING = Label(
    "{steps} optimizer steps, packing {packing}", "옵티마이저 스텝 {steps}회, 패킹 방식 {packing}"
)
NOT_RECORDED = Label("not recorded", "기록 없음")

EVERY_NUMBER = Label("Every number is in ", "모든 수치가 담긴 파일: ")
SETTINGS_CUT = Label(
    "The first {shown} of {all} settings are drawn.",
    "전체 설정 {all}개 중 처음 {shown}개만 그렸습니다.",
)
MEMORY_VS_SPEED_CAPTION = Label(
    "Peak memory of the training process against speed in the steady state; lower right is better. "
    "The line joins the settings in the order of their batch. Several runs of a setting: their "
    "mean, with bars for their range and a small point for each. A single run: the bar is the "
    "middle half of its step times, where they were recorded.",
    "정상 상태의 속도와 학습 프로세스의 최대 메모리입니다. 오른쪽 아래일수록 좋습니다. 선은 "
    "설정을 배치 크기 순으로 잇습니다. 한 설정을 여러 번 실행했으면 평균을 찍고 막대로 범위를, "
    "작은 점으로 각 실행을 나타냅니다. 한 번만 실행했으면 막대는 기록된 스텝 시간의 가운데 "
    "절반(사분위 범위)입니다.",
)
CURVES_TITLE = Label("Training curves", "학습 곡선")
CURVES_CAPTION = Label(
    "Thick lines are means over the runs of a setting, thin lines single runs; memory is that of "
    "the run that needed most. The settings are one training: their loss and ROUGE should coincide "
    "by step, and differ by time.",
    "굵은 선은 한 설정의 실행 평균, 가는 선은 각 실행이며, 메모리는 가장 많이 쓴 실행의 값입니다. "
    "모든 설정은 같은 학습이므로 스텝 기준 손실과 ROUGE는 겹치고, 시간 기준으로만 달라야 합니다.",
)
STEP_TIME_CAPTION = Label(
    "Mean time of each part of an optimizer step; hatched: timing not trusted.",
    "옵티마이저 스텝을 이루는 각 부분의 평균 시간입니다. 빗금: 시간 측정을 신뢰할 수 없음.",
)
PADDING_CAPTION = Label(
    "Padded tokens among all that training processed, source and target.",
    "학습에서 처리한 전체 입력·타깃 토큰 가운데 패딩 토큰의 비율입니다.",
)
NO_CAUSE = Label("No cause was recorded.", "원인이 기록되지 않았습니다.")
LOG_TAIL = Label("The last {lines} lines of ", "마지막 {lines}줄: ")
INCOMPLETE_CUT = Label(
    "The first {shown} of {all} are told; all are in ",
    "전체 {all}개 가운데 처음 {shown}개만 실었습니다. 전체: ",
)
NO_LIMIT = Label(
    "No other limit was found in the records.", "기록에서 다른 한계는 발견되지 않았습니다."
)
MEASUREMENTS = (
    Label(
        "Peak and mean memory: {source}, sampled while training. nvml_process is what NVML counts "
        "for the run's processes, nvml_newcomer the same for the one process that came with the "
        "run, where NVML knows it by another number, nvml_device_minus_baseline what the "
        "device holds beyond the time before the run; on the CPU it is the resident "
        "anonymous memory of the training process. Allocated and reserved are "
        "torch's allocator, on CUDA only.",
        "최대·평균 메모리: {source}, 학습 중 표본 측정. nvml_process는 NVML이 해당 실행의 "
        "프로세스에 대해 집계한 값, nvml_newcomer는 NVML이 실행의 프로세스 번호를 알 수 없을 때 "
        "실행 시작 후 새로 나타난 유일한 프로세스에 대해 집계한 값, nvml_device_minus_baseline은 "
        "실행 전과 비교해 장치에서 늘어난 사용량이며, CPU에서는 학습 프로세스의 상주 익명 "
        "메모리입니다. 할당량(allocated)과 예약량(reserved)은 torch "
        "할당자의 값으로 CUDA에서만 측정됩니다.",
    ),
    Label(
        "Steps, examples and tokens per second: optimizer steps, examples, and source and target "
        "tokens without padding, in the steady state: evaluation and the first steps{warmup} are "
        "left out.",
        "초당 스텝·예제·토큰: 옵티마이저 스텝, 예제, 패딩을 뺀 입력·타깃 토큰의 수를 정상 "
        "상태에서 잰 값으로, 평가와 처음 몇 스텝{warmup}은 제외합니다.",
    ),
    Label(
        "Training time: the training loop without evaluation.",
        "학습 시간: 평가를 제외한 학습 루프의 시간입니다.",
    ),
    Label(
        "ROUGE F1: from 0 to 1, the mean of ROUGE-1, ROUGE-2 and ROUGE-L F1 on the validation "
        "examples, words as counted by: {tokenizer}. Best is the best evaluation.",
        "ROUGE F1: 검증 예제에 대한 ROUGE-1, ROUGE-2, ROUGE-L F1의 평균(0~1)이며, 단어 분리는 "
        "{tokenizer} 기준입니다. ‘최고’는 가장 좋았던 평가의 값입니다.",
    ),
    Label(
        "Loss: nats per target token, at the last logged step or evaluation.",
        "손실: 마지막으로 기록된 스텝 또는 평가에서의 타깃 토큰당 nats입니다.",
    ),
    Label(
        "To target: training time until ROUGE first reaches {target} % of the best of the mean "
        "curve, on the line between two evaluations. The settings are one training: its steps to "
        "the target, in the mean over all runs, are divided by the speed of each setting. Some "
        "papers divide the best ROUGE by the total minutes instead: that is "
        "best_rouge_per_total_min in the file of results.",
        "목표 도달: 평균 곡선 최고 ROUGE의 {target}%에 처음 이르기까지의 학습 시간으로, 두 평가 "
        "사이는 직선으로 잇습니다. 모든 설정은 같은 학습이므로 모든 실행에서 평균한 도달 스텝을 "
        "설정별 속도로 나눕니다. 최고 ROUGE를 전체 시간(분)으로 나눈 값을 쓰는 문헌도 있는데, 결과 "
        "파일의 best_rouge_per_total_min이 그 값입니다.",
    ),
    Label(
        "ROUGE gain per minute: best minus initial ROUGE, divided by the training time until the "
        "best. ROUGE per GiB: best ROUGE divided by peak memory.",
        "분당 ROUGE 상승폭: 최고 ROUGE에서 초기 ROUGE를 뺀 값을 최고점까지의 학습 시간으로 나눈 "
        "값입니다. GiB당 ROUGE: 최고 ROUGE를 최대 메모리로 나눈 값입니다.",
    ),
    Label(
        "Settings are ranked and tested over the seeds that they share, as a randomized block "
        "design: the noise beside settings and seeds is pooled over all settings (Student's t, "
        "p-values corrected by Holm). Differences under {least} % of speed or memory are never "
        "ranked. Single runs are compared step by step on the same examples (circular block "
        "bootstrap), count only from {limit} % on (a convention), and decide nothing.",
        "설정은 공통 시드에서만, 시드를 블록으로 하는 난괴법으로 순위를 매기고 검정합니다. 설정과 "
        "시드를 뺀 잡음은 모든 설정에서 함께 추정합니다(스튜던트 t, p값은 Holm 보정). 속도나 "
        "메모리가 {least}% 미만으로 다르면 순위를 매기지 않습니다. 한 번씩만 실행한 설정은 같은 "
        "예제를 쓴 스텝끼리 비교하고(순환 블록 부트스트랩) {limit}% 이상 다를 때만 따지며(관례), "
        "그것으로 결론을 내지는 않습니다.",
    ),
    Label(
        "Settings that are one training are not ranked by quality; it is a check. Settings are the "
        "same in quality where two one-sided tests (TOST) place the difference within {margin} "
        "ROUGE points of 100. A larger gap that neither seeds nor a paired bootstrap over the "
        "validation examples explain is a fault.",
        "같은 학습인 설정은 품질로 순위를 매기지 않고 확인만 합니다. 단측 검정 두 번(TOST)으로 "
        "차이가 ROUGE {margin}점(100점 만점) 안이라고 확인되면 품질이 같은 것으로 봅니다. 시드와 "
        "검증 예제에 대한 짝 부트스트랩으로 설명되지 않는 더 큰 차이는 오류입니다.",
    ),
)
SAME_BATCH = Label(
    "Only completed runs with an effective batch of {batch} are ranked.",
    "유효 배치가 {batch}인 완료된 실행만 순위를 매깁니다.",
)
TRAIN_LONGER = Label(
    "Train longer with the setting named under {aims}:", "{aims} 설정으로 더 길게 학습하려면:"
)
MORE_SEEDS = Label(
    "More seeds, to tell differences from noise:", "차이와 잡음을 구별하도록 시드를 늘리려면:"
)
ADOPT = Label(
    "Make the choice the preset best, and train with it:",
    "선택한 설정을 best 프리셋으로 저장하고 그것으로 학습하려면:",
)
AGAIN = Label("This report again:", "이 보고서를 다시 만들려면:")

CONTROLS = {
    "contents": Label("Contents", "목차"),
    "filter": Label("Filter rows", "행 거르기"),
    "sort": Label("Sort by", "정렬 기준:"),
    "rows": Label("rows", "행"),
    "dark": Label("Dark", "어둡게"),
    "light": Label("Light", "밝게"),
}
