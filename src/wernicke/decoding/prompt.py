"""A prompt as token ids around one place for soft tokens, for any causal LLM's tokenizer.

The messages are rendered once by the tokenizer's chat template and cut at the placeholder; both pieces are tokenised
once. A template without a system role gets the system text in front of the user's; a tokenizer without a template gets
plain lines. What ends an answer is read off the template, so that it can be trained as part of the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from wernicke.core.checks import check_option
from wernicke.core.errors import InputError

ROLES = ("system", "user", "assistant")
# A stand-in for the answer while the template's end of turn is looked up; no tokenizer ever sees it.
_ANSWER = "wernicke-answer"


class Prompt:
    """The fixed token ids of one prompt.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
    messages : sequence of {"role", "content"}
        One of them holds `placeholder` once; optionally `label_slot` once, later.
    placeholder, label_slot : str
        Where the soft tokens go, and where each sample's own text goes.

    Attributes
    ----------
    prefix_ids : list of int
        Everything before the soft tokens, the beginning-of-text token included where the tokenizer sets one.
    end_id : int
        The token that ends an answer; the last of every target.
    stop_ids : list of int
        Generation ends at any of these.

    Raises
    ------
    InputError
        E-CFG: no placeholder, or two; a role that is unknown; no token that could end an answer.
    """

    def __init__(
        self, tokenizer: Any, messages: Sequence[Mapping[str, str]], placeholder: str, label_slot: str
    ) -> None:
        self._tokenizer = tokenizer
        self._label_slot = label_slot
        for message in messages:
            check_option(message.get("role", ""), ROLES, "messages")
        text = _render(tokenizer, messages)
        if text.count(placeholder) != 1:
            raise InputError("E-CFG", f"the placeholder {placeholder!r} occurs {text.count(placeholder)} times, "
                             "expected once", field="messages")  # fmt: skip
        before, self._suffix = text.split(placeholder)
        if label_slot in before or self._suffix.count(label_slot) > 1:
            raise InputError("E-CFG", f"{label_slot!r} may occur once, after {placeholder!r}", field="messages",
                             hint="what comes before the soft tokens is the same for all samples")  # fmt: skip
        self.prefix_ids = _leading_ids(tokenizer) + self._encode(before)
        self.end_id = _end_of_turn(tokenizer, messages)
        self.stop_ids = sorted({self.end_id, *(i for i in (tokenizer.eos_token_id,) if i is not None)})
        self._special = tuple(token for token in tokenizer.all_special_tokens if token)
        self._suffixes: dict[str, list[int]] = {}

    @property
    def takes_label(self) -> bool:
        """Whether each sample brings its own text."""
        return self._label_slot in self._suffix

    def suffix_ids(self, label: str | None = None) -> list[int]:
        """Return the ids after the soft tokens, with the sample's own text in its slot."""
        if (label is not None) != self.takes_label:
            problem = "needs a label for each sample" if self.takes_label else "has no place for labels"
            raise InputError("E-CFG", f"the prompt {problem}", field="labels", hint=f"the slot is {self._label_slot!r}")
        key = label or ""
        if key not in self._suffixes:
            self._refuse_special(key, "labels")
            self._suffixes[key] = self._encode(self._suffix.replace(self._label_slot, key))
        return self._suffixes[key]

    def target_ids(self, text: str) -> list[int]:
        """Return the ids of an answer, its end-of-turn token last.

        Raises
        ------
        InputError
            E-META: an empty text. E-FMT: a text that holds one of the tokenizer's special tokens.
        """
        if not isinstance(text, str) or not text.strip():
            raise InputError("E-META", f"found the empty target {text!r}", field="texts",
                             hint="every sample that is trained on needs a sentence")  # fmt: skip
        self._refuse_special(text, "texts")
        return [*self._encode(text.strip()), self.end_id]

    def _refuse_special(self, text: str, field: str) -> None:
        found = next((token for token in self._special if token in text), None)
        if found is not None:
            raise InputError("E-FMT", f"{text!r} holds the special token {found!r}", field=field,
                             hint="it would end or restructure the prompt; remove it from the text")  # fmt: skip

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def _render(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> str:
    """Return the messages as the text after which the LLM is to answer."""
    if not tokenizer.chat_template:
        return "".join(f"{message['content']}\n" for message in messages)
    return _apply_template(tokenizer, messages, add_generation_prompt=True)


def _apply_template(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> str:
    turns = [dict(message) for message in messages]
    options = {"tokenize": False, "add_generation_prompt": add_generation_prompt}
    try:
        text = tokenizer.apply_chat_template(turns, **options)
    except TemplateError:
        if turns[0]["role"] != "system":
            raise
        text = ""
    # Some templates refuse a system turn, others leave it out without a word.
    if turns[0]["role"] == "system" and turns[0]["content"] not in text:
        system, first, *rest = turns
        merged = {"role": first["role"], "content": f"{system['content']}\n\n{first['content']}"}
        text = tokenizer.apply_chat_template([merged, *rest], **options)
    return text


def _leading_ids(tokenizer: Any) -> list[int]:
    """Return the beginning-of-text id where the tokenizer sets one by itself and no template writes it."""
    ids = tokenizer("")["input_ids"]
    starts = bool(ids) and ids[0] == tokenizer.bos_token_id and tokenizer.bos_token_id is not None
    return [ids[0]] if starts and not tokenizer.chat_template else []


def _end_of_turn(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> int:
    """Return the token by which the template ends an assistant's turn, else the tokenizer's end of text."""
    if tokenizer.chat_template:
        turns = [*messages, {"role": "assistant", "content": _ANSWER}]
        text = _apply_template(tokenizer, turns, add_generation_prompt=False)
        tail = tokenizer(text.rpartition(_ANSWER)[2], add_special_tokens=False)["input_ids"]
        special = {*tokenizer.all_special_ids, *_added_special_ids(tokenizer)}
        ending = next((token for token in tail if token in special), None)
        if ending is not None:
            return ending
    if tokenizer.eos_token_id is None:
        raise InputError("E-CFG", "the tokenizer has neither an end-of-turn nor an end-of-text token", field="llm",
                         hint="set tokenizer.eos_token: without one an answer never ends")  # fmt: skip
    return tokenizer.eos_token_id


def _added_special_ids(tokenizer: Any) -> list[int]:
    return [index for index, token in tokenizer.added_tokens_decoder.items() if token.special]
