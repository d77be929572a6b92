"""tiny_gguf.py FILE: a language model of llama's kind that says words at random, always the same ones; 17 MB."""
import sys

import gguf
import numpy

WIDTH, INNER, LAYERS, HEADS = 256, 1024, 4, 4
WORDS = [f"\u2581w{number}" for number in range(253)]
TOKENS = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + WORDS
kinds = gguf.TokenType
TYPES = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL] + [kinds.BYTE] * 256 + [kinds.NORMAL] * len(WORDS)
random = numpy.random.default_rng(7)
out = gguf.GGUFWriter(sys.argv[1], "llama")
out.add_vocab_size(len(TOKENS))
out.add_context_length(2048)
out.add_embedding_length(WIDTH)
out.add_feed_forward_length(INNER)
out.add_block_count(LAYERS)
out.add_head_count(HEADS)
out.add_head_count_kv(HEADS)
out.add_rope_dimension_count(WIDTH // HEADS)
out.add_layer_norm_rms_eps(1e-5)
out.add_tokenizer_model("llama")
out.add_tokenizer_pre("default")
out.add_token_list(TOKENS)
out.add_token_scores([0.0] * len(TOKENS))
out.add_token_types(TYPES)
for add, token in ((out.add_unk_token_id, 0), (out.add_bos_token_id, 1), (out.add_eos_token_id, 2)):
    add(token)
out.add_chat_template("{% for message in messages %}{{ message.content }} {% endfor %}")


def weights(name, *shape):
    out.add_tensor(name, random.normal(0, 1 if "embd" in name else shape[-1] ** -0.5, shape).astype(numpy.float32))


weights("token_embd.weight", len(TOKENS), WIDTH)
# Only words are said: no other token has a weight.
head = random.normal(0, 1, (len(TOKENS), WIDTH)).astype(numpy.float32)
head[:-len(WORDS)] = 0
out.add_tensor("output.weight", head)
out.add_tensor("output_norm.weight", numpy.ones(WIDTH, numpy.float32))
for layer in range(LAYERS):
    for part in ("attn", "ffn"):
        out.add_tensor(f"blk.{layer}.{part}_norm.weight", numpy.ones(WIDTH, numpy.float32))
    for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
        weights(f"blk.{layer}.{part}.weight", WIDTH, WIDTH)
    weights(f"blk.{layer}.ffn_gate.weight", INNER, WIDTH)
    weights(f"blk.{layer}.ffn_up.weight", INNER, WIDTH)
    weights(f"blk.{layer}.ffn_down.weight", WIDTH, INNER)
out.write_header_to_file()
out.write_kv_data_to_file()
out.write_tensors_to_file()
out.close()
