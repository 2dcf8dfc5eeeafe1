"""One step of learning, and one look at the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...errors import FineTuningError
from .batches import Encoded, micro_batches

__all__ = ["Learner"]

_CLIP = 1.0
_MOMENTS = ("exp_avg", "exp_avg_sq")


class Learner:
    """Teaches the LoRA matrices of a model by AdamW; the base's weights stay.

    Args:
        model: As `with_lora` gives it.
        precision: Of the base's weights and of what flows: ``bf16`` or ``f32``. The matrices stay in 32-bit floats.
        micro_batch_tokens: Held in memory at a time.
    """

    def __init__(self, model: Any, precision: str, micro_batch_tokens: int) -> None:
        import torch

        self._torch = torch
        self._model = model
        self._micro_batch_tokens = micro_batch_tokens
        self._parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
        if precision == "bf16":
            for each in model.parameters():
                if not each.requires_grad:
                    each.data = each.data.to(torch.bfloat16)
        causal = model.get_base_model()
        self._decoder, self._head = causal.get_decoder(), causal.get_output_embeddings()
        self._optimizer = torch.optim.AdamW(self._parameters.values(), lr=0.0, weight_decay=0.0)
        self._steps = 0
        self._best: dict[str, Any] = {}

    def step(self, batch: Sequence[Encoded], rate: float, *, seed: int) -> float:
        """Learns from the examples of one step; gives the mean loss for a token of the answers, before the step.

        Raises:
            FineTuningError: The loss or its gradient is not finite.
        """
        torch = self._torch
        count = sum(len(example.answer) for example in batch)
        self._model.train()
        self._optimizer.zero_grad(set_to_none=True)
        total = 0.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # of the dropout
            for group in micro_batches(batch, self._micro_batch_tokens):
                loss = self._summed_loss(group) / count
                loss.backward()
                total += float(loss.detach())
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters.values(), _CLIP))
        if not math.isfinite(total) or not math.isfinite(norm):
            raise FineTuningError(
                f"the loss became {total} (its gradient {norm}) at step {self._steps + 1}, so the weights are lost: "
                f"train anew with a lower learning_rate (it was {rate:g}), or look for odd examples"
            )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._steps += 1
        return total

    def loss(self, examples: Sequence[Encoded]) -> float:
        """Gives the mean loss for a token of the answers; nothing is learnt.

        Raises:
            FineTuningError: It is not finite.
        """
        self._model.eval()
        with self._torch.no_grad():
            groups = micro_batches(examples, self._micro_batch_tokens)
            total = sum(float(self._summed_loss(group)) for group in groups)
        mean = total / sum(len(example.answer) for example in examples)
        if not math.isfinite(mean):
            raise FineTuningError(
                f"the validation loss became {mean} after step {self._steps}: train anew with a lower learning_rate"
            )
        return mean

    def _summed_loss(self, group: Sequence[Encoded]) -> Any:
        """Sums −log p over the answers' tokens; only there the head is computed, the dearest product of all."""
        torch = self._torch
        width = max(example.length for example in group)
        # Filled up on the right, where no real token looks: so no mask is needed.
        ids = torch.zeros((len(group), width), dtype=torch.long)
        told = torch.zeros((len(group), width), dtype=torch.bool)
        targets: list[int] = []
        for row, example in enumerate(group):
            ids[row, : example.length] = torch.tensor((*example.prompt, *example.answer[:-1]))
            told[row, len(example.prompt) - 1 : example.length] = True
            targets += example.answer
        hidden = self._decoder(input_ids=ids, use_cache=False).last_hidden_state[told]
        logits = self._head(hidden).float()
        return torch.nn.functional.cross_entropy(logits, torch.tensor(targets), reduction="sum")

    def keep_as_best(self) -> None:
        """Takes the matrices as they are for the best so far."""
        self._best = {name: each.detach().clone() for name, each in self._parameters.items()}

    def best(self) -> dict[str, Any]:
        """Gives the best matrices, where none were kept the last ones: numpy arrays, named as ``peft`` saves them."""
        kept = self._best or self._parameters
        return {name.replace(".default.", "."): each.detach().float().numpy() for name, each in kept.items()}

    def state(self) -> dict[str, Any]:
        """Gives all that learning goes on from: matrices, their moments, the best so far, the number of steps."""
        state = {"steps": self._torch.tensor(self._steps)}
        for name, each in self._parameters.items():
            state[f"now.{name}"] = each.detach()
            for moment in _MOMENTS:
                if each in self._optimizer.state:
                    state[f"{moment}.{name}"] = self._optimizer.state[each][moment]
        state.update({f"best.{name}": each for name, each in self._best.items()})
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to what `state` gave.

        Raises:
            FineTuningError: It is another model's.
        """
        torch = self._torch
        try:
            self._steps = int(state["steps"])
            with torch.no_grad():
                for name, each in self._parameters.items():
                    each.copy_(state[f"now.{name}"])
                    moments = {moment: state[f"{moment}.{name}"].clone() for moment in _MOMENTS}
                    self._optimizer.state[each] = {"step": torch.tensor(float(self._steps)), **moments}
            names = [name for name in self._parameters if f"best.{name}" in state]
            self._best = {name: state[f"best.{name}"] for name in names}
        except (KeyError, RuntimeError) as error:
            raise FineTuningError(f"the checkpoint does not fit the model ({error}); delete it to begin anew") from None
