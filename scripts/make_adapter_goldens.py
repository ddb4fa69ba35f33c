#!/usr/bin/env python3
"""Make the adapters of tests/goldens/adapters/ with PEFT: tests/goldens/adapters/<golden>/ holds what save_pretrained of an adapter with
random values on that golden writes, and the logits that the two give together for the golden's tokens.

    scripts/make_adapter_goldens.py

Needs the reference environment (`make reference`) and, in it or beside it, `pip install --no-deps peft accelerate psutil`.
"""
import pathlib
import shutil
import tempfile
import warnings

import torch
import transformers as T
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

T.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore")

GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "goldens"
# What PEFT keeps in a form of its own: tables and tied heads; q, k and v in one matrix, in the order of its rows and turned; experts in
# one tensor; patterns of ranks; layers and modules that are left out.
CASES = {
    "llama_tied_llama3_rope": dict(r=2, lora_alpha=3, target_modules=["embed_tokens", "lm_head", "v_proj"]),
    "gpt2": dict(r=2, lora_alpha=4, target_modules=["c_attn", "c_fc", "wpe"], use_rslora=True, layers_to_transform=[1]),
    "falcon_40b": dict(r=3, lora_alpha=4, target_modules=r".*\.(query_key_value|dense)", rank_pattern={r"0\.self_attention\.dense": 1},
                       alpha_pattern={"query_key_value": 7}),
    "phi3": dict(r=2, lora_alpha=4, target_modules="all-linear", exclude_modules=["down_proj"]),
    "mixtral": dict(r=2, lora_alpha=4, target_modules=["o_proj"], target_parameters=["experts.gate_up_proj", "experts.down_proj"]),
    "qwen3_moe_plain_layer": dict(r=2, lora_alpha=4, target_modules=["q_proj"], target_parameters=["experts.down_proj"]),
}


def main():
    for name, settings in CASES.items():
        base = T.AutoModelForCausalLM.from_pretrained(GOLDENS / name, dtype=torch.float32, attn_implementation="eager")
        torch.manual_seed(7)
        model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "lora_" in key:
                    parameter.copy_(torch.randn_like(parameter) * 0.15)
            tokens = load_file(GOLDENS / name / "expected.safetensors")["tokens"]
            logits = model(tokens[None].long()).logits[0]
        folder = GOLDENS / "adapters" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as written:
            model.save_pretrained(written)
            text = (pathlib.Path(written) / "adapter_config.json").read_text()
            (folder / "adapter_config.json").write_text(text.replace(str(GOLDENS.parent.parent) + "/", "") + "\n")
            shutil.copy(pathlib.Path(written) / "adapter_model.safetensors", folder)
        save_file({"logits": logits.contiguous()}, folder / "expected.safetensors")


if __name__ == "__main__":
    main()
