"""Training steps of OLMoE in Hugging Face transformers on the CPU: one step after another on the same batch, timed.

What `compare_transformers.py` sets beside the trainer. Dims: B sequences, S tokens each.
"""

import os
import time

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ["HF_HUB_OFFLINE"] = "1"
import torch  # noqa: E402
import transformers  # noqa: E402

transformers.utils.logging.disable_progress_bar()

# Name -> (type of the weights, autocast to bf16, experts implementation); by precision of the trainer.
VARIANTS = {
    "fp32": {
        "fp32 eager": (torch.float32, False, "eager"),
        "fp32 grouped_mm": (torch.float32, False, "grouped_mm"),
    },
    "bf16": {
        "bf16 eager": (torch.bfloat16, False, "eager"),
        "bf16 grouped_mm": (torch.bfloat16, False, "grouped_mm"),
        "autocast eager": (torch.float32, True, "eager"),
        "autocast grouped_mm": (torch.float32, True, "grouped_mm"),
    },
}
WEIGHT_SPREAD = 1.5  # a matrix's weights are normal with this spread / sqrt(inputs): routing and attention are not flat
NORM_RANGE = (0.5, 1.5)


def save_random_model(size, folder):
    """Writes an OLMoE of `size` (attributes named as the keys of a job file) with random weights to `folder`."""
    torch.manual_seed(7)
    config = transformers.OlmoeConfig(
        vocab_size=size.vocab_size,
        hidden_size=size.hidden_size,
        num_hidden_layers=size.num_layers,
        num_attention_heads=size.num_heads,
        num_key_value_heads=size.num_heads,
        intermediate_size=size.expert_hidden_size,
        num_experts=size.num_experts,
        num_experts_per_tok=1,
        max_position_embeddings=size.seq_len,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        use_cache=False,
    )
    model = transformers.OlmoeForCausalLM(config)
    with torch.no_grad():
        for value in model.parameters():
            if value.dim() > 1:
                value.normal_(0, WEIGHT_SPREAD / value.shape[-1] ** 0.5)
            else:
                value.uniform_(*NORM_RANGE)
    model.save_pretrained(folder)


def versions():
    return {"torch": torch.__version__, "transformers": transformers.__version__}


class TransformersSide:
    """Runs steps from the weights in `folder` on one batch: `tokens`, a list of B * S + 1 ids."""

    def __init__(self, folder, tokens, seq_len, training, threads):
        torch.set_num_threads(threads)
        self.folder = folder
        ids = torch.tensor(tokens)
        self.inputs, self.targets = ids[:-1].view(-1, seq_len), ids[1:].view(-1, seq_len)
        self.training = training  # the job file's section
        self.models = {}

    def _model(self, dtype):
        """The model at its first weights, kept for the next call."""
        if dtype not in self.models:
            model = transformers.OlmoeForCausalLM.from_pretrained(self.folder, dtype=dtype, attn_implementation="sdpa")
            self.models[dtype] = model.train(), {name: value.clone() for name, value in model.state_dict().items()}
        model, first = self.models[dtype]
        model.load_state_dict(first)
        return model

    def run(self, variant, k_per_step, kept_bytes=False):
        """Steps from the first weights, one for each list of k by layer in `k_per_step`: `loss` (nats per token, before
        the update), `seconds`, and of the first, if asked for, `kept_bytes`."""
        dtype, autocast, experts = variant
        model = self._model(dtype)
        model.set_experts_implementation(experts)
        training = self.training
        decayed = [p for p in model.parameters() if p.dim() > 1]
        others = [p for p in model.parameters() if p.dim() <= 1]
        groups = [
            {"params": decayed, "weight_decay": training["weight_decay"]},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(
            groups, lr=training["learning_rate"], betas=(training["beta1"], training["beta2"]), eps=1e-8, fused=True
        )
        steps = []
        for k_per_layer in k_per_step:
            for layer, k in zip(model.model.layers, k_per_layer, strict=True):
                layer.mlp.gate.top_k = k
            meter = SavedTensors(model) if kept_bytes and not steps else None
            start = time.perf_counter()
            loss = self._forward(model, autocast, meter)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), training["clip_norm"])
            optimizer.step()
            optimizer.zero_grad()
            steps.append({"loss": loss.item(), "seconds": time.perf_counter() - start})
            if meter:
                steps[-1]["kept_bytes"] = meter.bytes
        return steps

    def _forward(self, model, autocast, meter):
        def forward():
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                return model(input_ids=self.inputs, labels=self.targets, shift_labels=self.targets).loss

        if meter is None:
            return forward()
        with torch.autograd.graph.saved_tensors_hooks(meter.pack, lambda tensor: tensor):
            return forward()


class SavedTensors:
    """Counts the bytes that a forward pass saves for the backward pass, each storage once, without the weights' own."""

    def __init__(self, model):
        self.seen = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.bytes = 0

    def pack(self, tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.seen:
            self.seen.add(storage.data_ptr())  # saved until backward, so no other storage takes its place
            self.bytes += storage.nbytes()
        return tensor
