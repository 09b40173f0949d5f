"""Prompts for decoder-only models: the text around a dialogue, and the token after a summary.

The prompt is the model's own chat template, a template of the person's, or plain text. It is
tokenised as a whole, as at a later use of the model. A prompt that is too long loses the end of its
dialogue, never anything of the template. The summary is tokenised by itself, since generation goes
on after the tokens of the prompt.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from batchopt.data.ends import label_end
from batchopt.data.pretrained import KEY
from batchopt.data.rows import unescaped
from batchopt.data.texts import Rows, Texts
from batchopt.errors import RequestError
from batchopt.request.config import DataConfig, ModelConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TODAY = datetime(2024, 7, 26)
"""What a chat template gets for today, so that tokens depend on no calendar. Llama 3.2's own
template falls back to this day."""

LEAST_DIALOGUE = 8
"""Tokens that must be left for a dialogue beside its template."""

_WORDS = {
    True: ("당신은 대화를 요약하는 조수입니다.", "다음 대화를 요약하세요.", "요약:"),
    False: ("You summarise dialogues.", "Summarise the following dialogue.", "Summary:"),
}
"""The system's message, the instruction and the heading of the summary, in Korean and English."""

_MARK = "7f3a9c"
"""Stands for a text while a template is looked at."""

Render = Callable[[str], str]


class Prompts(Texts):
    """Dialogues in a prompt, and summaries as they follow it."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", render: Render, *, end: int, prompt: str
    ) -> None:
        self.tokenizer = tokenizer
        self.render = render
        self.label_end = end
        self.prompt = prompt
        # What a tokenizer puts before every text, unless the template is the model's own and has
        # it already.
        first = tokenizer.bos_token_id
        begins = tokenizer(text="", verbose=False)["input_ids"][:1] == [first]
        self.begin = [first] if begins and first is not None else []

    def sources(self, dialogues: Sequence[str], limit: int) -> Rows:
        """Tokenises prompts.

        Raises:
            RequestError: The template leaves no room for a dialogue.
        """
        least = len(self._tokens([""])[0])
        if least + LEAST_DIALOGUE > limit:
            raise RequestError(
                f"data.max_source_length is {limit}, and the prompt without a dialogue has {least} "
                f"tokens; set data.max_source_length={least + LEAST_DIALOGUE} or more, or shorten "
                "the prompt with data.prompt_template"
            )
        rows = self._tokens(dialogues)
        long = [index for index, row in enumerate(rows) if len(row) > limit]
        for index in long:
            rows[index] = self._cut(dialogues[index], limit)
        return Rows(rows, len(long), len(rows))

    def labels(self, summaries: Sequence[str], limit: int) -> Rows:
        """Tokenises summaries, each with the end token."""
        own = self.tokenizer(list(summaries), add_special_tokens=False, verbose=False)["input_ids"]
        cut = sum(len(row) >= limit for row in own)
        return Rows([[*row[: limit - 1], self.label_end] for row in own], cut, len(own))

    def _tokens(self, dialogues: Sequence[str]) -> list[list[int]]:
        texts = [self.render(dialogue) for dialogue in dialogues]
        rows: list[list[int]] = self.tokenizer(texts, add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        return [row if row[:1] == self.begin else [*self.begin, *row] for row in rows]

    def _cut(self, dialogue: str, limit: int) -> list[int]:
        """The prompt with the longest beginning of the dialogue that fits."""

        def length(characters: int) -> int:
            return len(self._tokens([dialogue[:characters]])[0])

        most = bisect_right(range(len(dialogue) + 1), limit, key=length) - 1
        return self._tokens([dialogue[:most]])[0]


def find_prompts(
    data: DataConfig,
    model: ModelConfig,
    tokenizer: "PreTrainedTokenizerBase",
    summaries: Sequence[str],
) -> Prompts:
    """Chooses the prompt: data.prompt_template, the model's chat template, or plain text.

    Args:
        data: What the person says of it.
        model: For the messages, and for the token that ends a text.
        tokenizer: Has the chat template.
        summaries: They decide the language of what the person does not say.

    Raises:
        RequestError: The chat template cannot be used, or nothing names a token that ends a text.
    """
    system, instruction, heading = _WORDS[_are_korean(summaries)]
    given = None if data.system_prompt is None else unescaped(data.system_prompt)
    if data.instruction is not None:
        instruction = unescaped(data.instruction)
    if data.prompt_template is not None:
        before, _, after = unescaped(data.prompt_template).partition("{dialogue}")
        return Prompts(
            tokenizer,
            lambda dialogue: f"{before}{dialogue}{after}",
            end=label_end(model, tokenizer),
            prompt="data.prompt_template",
        )
    if tokenizer.chat_template:
        chat = _Chat(model, tokenizer, system if given is None else given, instruction)
        end = chat.end()
        prompts = Prompts(
            tokenizer,
            chat.prompt,
            end=label_end(model, tokenizer) if end is None else end,
            prompt="the model's chat template",
        )
        prompts.begin = []  # the template has it
        return prompts
    return Prompts(
        tokenizer,
        lambda dialogue: "\n\n".join(
            part for part in (given, instruction, dialogue, f"{heading}\n") if part
        ),
        end=label_end(model, tokenizer),
        prompt="data.instruction, since the model has no chat template",
    )


class _Chat:
    """The chat template of a model, with a system's message and an instruction."""

    def __init__(self, model: ModelConfig, tokenizer: Any, system: str, instruction: str) -> None:
        self.tokenizer = tokenizer
        self.system = system
        self.instruction = instruction
        name = getattr(model, "name_or_path", model.source)
        try:
            self.template = _on_that_day(tokenizer.get_chat_template())
            # Some templates refuse a system's message, others drop it; the user says it then.
            self.apart = bool(system) and self._takes_a_system()
            shown = self.prompt(_MARK)
        except Exception as error:  # a template may raise anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise RequestError(
                f"{KEY}: the chat template of {name} fails ({reason}); set data.prompt_template"
            ) from error
        if shown.count(_MARK) != 1:
            raise RequestError(
                f"{KEY}: the chat template of {name} shows a dialogue {shown.count(_MARK)} times, "
                "not once; set data.prompt_template"
            )

    def prompt(self, dialogue: str) -> str:
        """The text up to where the answer begins."""
        return self._render(self._messages(dialogue), add_generation_prompt=True)

    def end(self) -> int | None:
        """The special token that the template puts behind an answer; None: there is none."""
        answer = {"role": "assistant", "content": _MARK}
        try:
            text = self._render([*self._messages("?"), answer])
        except Exception:  # some know how to ask and not how to answer
            return None
        _, found, tail = text.rpartition(_MARK)
        if not found:
            return None
        behind = self.tokenizer(tail.lstrip(), add_special_tokens=False)["input_ids"]
        added = self.tokenizer.added_tokens_decoder
        return behind[0] if behind and behind[0] in added and added[behind[0]].special else None

    def _takes_a_system(self) -> bool:
        messages = [{"role": "system", "content": _MARK}, {"role": "user", "content": "?"}]
        try:
            return _MARK in self._render(messages, add_generation_prompt=True)
        except Exception:
            return False

    def _messages(self, dialogue: str) -> list[dict[str, str]]:
        system = [{"role": "system", "content": self.system}] if self.apart else []
        said = ["" if self.apart else self.system, self.instruction, dialogue]
        content = "\n\n".join(part for part in said if part)
        return [*system, {"role": "user", "content": content}]

    def _render(self, messages: list[dict[str, str]], **options: Any) -> str:
        text: str = self.tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            chat_template=self.template,
            enable_thinking=False,  # Qwen3 and its kin: a summary has no thoughts before it
            **options,
        )
        return text


def _on_that_day(template: str) -> str:
    """The template with a `strftime_now` of its own, in place of the clock of transformers.

    transformers passes texts to a template and no functions, so it is a macro.
    """
    if "strftime_now" not in template:
        return template
    parts = "".join(f" | replace('%{code}', '{TODAY:%{code}}')" for code in "aAbBdmyYjHIMSp")
    # The last sign keeps a line break that the template begins with.
    return f"{{% macro strftime_now(form) %}}{{{{ form{parts} }}}}{{% endmacro +%}}{template}"


def _are_korean(texts: Sequence[str]) -> bool:
    """Whether at least half of them have a Hangul syllable."""
    return 2 * sum(any("가" <= letter <= "힣" for letter in text) for text in texts) >= len(texts)
