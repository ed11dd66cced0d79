"""Models of transformers' real classes with a few thousand random weights, saved as real folders with their processors.

They stand in for BERT, ViT, DeiT, ResNet, CLIP, AST, wav2vec 2.0, LLaVA, GIT and BridgeTower wherever the code path
counts and not what the states mean. Test files import this module by its name: ``from tiny_models import build_tiny``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tiny_llms import SENTENCES

KINDS = ("bert", "roberta", "vit", "deit", "resnet", "clip", "ast", "wav2vec2", "llava", "git", "bridgetower")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<image>")
_TEXT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
_SIZE = 32
_PATCH = 8


def build_tiny(folder: Path, kind: str, *, seed: int = 0) -> Path:
    """Write a random model of `kind` (one of `KINDS`) with its processor into `folder` and return it."""
    import torch

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = wordpiece_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, processor = _builders()[kind](tokenizer)
        for parameter in model.parameters():  # wide enough that states differ by token and by patch
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
            else:
                parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def wordpiece_tokenizer():
    """Return an uncased tokenizer of words that puts [CLS] and [SEP] around a text, as BERT's does."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted({w for s in SENTENCES for w in s.lower().replace(".", " .").replace("'", " ' ").split()})
    vocabulary = {w: i for i, w in enumerate((*_SPECIAL, *words, *"abcdefghijklmnopqrstuvwxyz,:!?"))}
    for letter in "abcdefghijklmnopqrstuvwxyz":
        vocabulary.setdefault("##" + letter, len(vocabulary))
    vocabulary = {word: i for i, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", additional_special_tokens=["<image>"], model_max_length=64, padding_side="right",
    )  # fmt: skip


def picture(seed: int, size: tuple[int, int] = (40, 48)) -> np.ndarray:
    """Return a random smooth RGB picture, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (4, 4, 3)).astype(np.uint8)
    return np.kron(coarse, np.ones((size[0] // 4, size[1] // 4, 1), np.uint8))


def sound(seed: int, seconds: float, rate_hz: int = 16000) -> np.ndarray:
    """Return a random mixture of tones, float32 in [-1, 1]."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate_hz)) / rate_hz
    tones = [np.sin(2 * np.pi * f * time + rng.uniform(0, 6)) for f in rng.uniform(100, 3000, 4)]
    return (np.sum(tones, 0) / 8 * np.clip(np.sin(time * rng.uniform(1, 4)), 0.1, 1)).astype(np.float32)


def _builders():
    return {
        "bert": _bert, "roberta": _roberta, "vit": _vit, "deit": _deit, "resnet": _resnet, "clip": _clip, "ast": _ast,
        "wav2vec2": _wav2vec2, "llava": _llava, "git": _git, "bridgetower": _bridgetower,
    }  # fmt: skip


def _bert(tokenizer):
    import transformers as t

    config = t.BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **_TEXT)
    return t.BertForMaskedLM(config), tokenizer


def _roberta(tokenizer):
    import transformers as t

    config = t.RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=66, pad_token_id=0, **_TEXT)
    return t.RobertaForMaskedLM(config), tokenizer


def _vit(tokenizer):
    import transformers as t

    config = t.ViTConfig(image_size=_SIZE, patch_size=_PATCH, **_TEXT)
    return t.ViTForImageClassification(config), t.ViTImageProcessorPil(size={"height": _SIZE, "width": _SIZE})


def _deit(tokenizer):
    import transformers as t

    config = t.DeiTConfig(image_size=_SIZE, patch_size=_PATCH, **_TEXT)
    square = {"height": _SIZE, "width": _SIZE}
    return t.DeiTForImageClassificationWithTeacher(config), t.DeiTImageProcessorPil(size=square, crop_size=square)


def _resnet(tokenizer):
    import transformers as t

    config = t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)
    return t.ResNetForImageClassification(config), t.ConvNextImageProcessorPil(size={"shortest_edge": 384})


def _vision():
    return {"image_size": _SIZE, "patch_size": _PATCH, **_TEXT}


def _clip_processor():
    import transformers as t

    return t.CLIPImageProcessorPil(size={"shortest_edge": _SIZE}, crop_size={"height": _SIZE, "width": _SIZE})


def _clip(tokenizer):
    import transformers as t

    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 64, **_TEXT}
    text |= {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    config = t.CLIPConfig(text_config=text, vision_config=_vision(), projection_dim=16)
    return t.CLIPModel(config), _clip_processor()


def _ast(tokenizer):
    import transformers as t

    config = t.ASTConfig(num_mel_bins=32, max_length=98, patch_size=16, frequency_stride=10, time_stride=10, **_TEXT)
    return t.ASTForAudioClassification(config), t.ASTFeatureExtractor(num_mel_bins=32, max_length=98)


def _wav2vec2(tokenizer):
    import transformers as t

    config = t.Wav2Vec2Config(
        conv_dim=(16, 16, 16), conv_stride=(5, 4, 4), conv_kernel=(10, 8, 4), num_feat_extract_layers=3,
        feat_extract_norm="layer", do_stable_layer_norm=True, num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4, vocab_size=20, **_TEXT,
    )  # fmt: skip
    return t.Wav2Vec2ForCTC(config), t.Wav2Vec2FeatureExtractor(return_attention_mask=True)


def _llava(tokenizer):
    import transformers as t

    image_id = tokenizer.convert_tokens_to_ids("<image>")
    text = t.LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=256, **_TEXT)
    vision = t.CLIPVisionConfig(**_vision())
    config = t.LlavaConfig(vision_config=vision, text_config=text, image_token_id=image_id, vision_feature_layer=-2)
    processor = t.LlavaProcessor(
        image_processor=_clip_processor(), tokenizer=tokenizer, patch_size=_PATCH,
        vision_feature_select_strategy="default", image_token="<image>", num_additional_image_tokens=1,
    )  # fmt: skip
    return t.LlavaForConditionalGeneration(config), processor


def _git(tokenizer):
    import transformers as t

    config = t.GitConfig(vision_config=_vision(), vocab_size=len(tokenizer), max_position_embeddings=64, **_TEXT)
    return t.GitForCausalLM(config), t.GitProcessor(image_processor=_clip_processor(), tokenizer=tokenizer)


def _bridgetower(tokenizer):
    import transformers as t

    vision = {"hidden_size": 64, "num_hidden_layers": 3, "patch_size": _PATCH, "image_size": _SIZE}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 66, "pad_token_id": 0, **_TEXT}
    text["num_hidden_layers"] = 3
    config = t.BridgeTowerConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, text_config=text, vision_config=vision
    )
    images = t.BridgeTowerImageProcessorPil(
        size={"shortest_edge": _SIZE}, crop_size={"shortest_edge": _SIZE}, do_center_crop=True,
    )  # fmt: skip
    return t.BridgeTowerModel(config), t.BridgeTowerProcessor(image_processor=images, tokenizer=tokenizer)
