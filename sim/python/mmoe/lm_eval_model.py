"""EleutherAI's lm-eval on an exported model, at any number of active experts or at a plan of k per layer.

    mmoe export --checkpoint run/checkpoints/step_1200 --allocation run/allocation.json --out exported
    python -m mmoe.lm_eval_model run --model mmoe --model_args pretrained=exported,k=2 --tasks arc_easy

takes all that `lm-eval` takes (PyPI: lm-eval[hf]), with these model_args beside those of its model `hf`:

    k=2             every MoE layer selects 2 experts (default: num_experts_per_tok of config.json)
    plan=exported   one k a layer: a folder with k_plan.json, or that file
    tokenizer=bytes for models of `mmoe data build --tokenizer bytes`
"""

import transformers
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from .k_plan import apply_k_plan, moe_routers


class ByteTokenizer(transformers.PreTrainedTokenizer):
    """Token = byte of the UTF-8 text, as `mmoe data build --tokenizer bytes` has it. 255, which UTF-8 never has, ends and
    pads."""

    END = "<|end|>"

    def __init__(self, **options):
        super().__init__(eos_token=self.END, pad_token=self.END, **options)

    @property
    def vocab_size(self):
        return 256

    def get_vocab(self):
        return {self._convert_id_to_token(i): i for i in range(256)}

    def _tokenize(self, text, **_):
        return [chr(byte) for byte in text.encode()]

    def _convert_token_to_id(self, token):
        return 255 if token == self.END else ord(token)

    def _convert_id_to_token(self, index):
        return self.END if index == 255 else chr(index)

    def convert_tokens_to_string(self, tokens):
        parts = (token.encode() if token == self.END else bytes([ord(token)]) for token in tokens)
        return b"".join(parts).decode(errors="replace")


@register_model("mmoe")
class MmoeLM(HFLM):
    """lm-eval's Hugging Face model with its routers set to k, or to a plan."""

    def __init__(self, pretrained, k=None, plan=None, tokenizer=None, **options):
        if k is not None and plan is not None:
            raise ValueError("give k or plan, not both")
        if tokenizer == "bytes":
            tokenizer = ByteTokenizer()
            options.setdefault("prefix_token_id", ord("\n"))  # what stands before a document
        super().__init__(pretrained=pretrained, tokenizer=tokenizer, **options)
        if k is not None:
            plan = [int(k)] * len(moe_routers(self.model))
        if plan is not None:
            apply_k_plan(self.model, plan)


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
