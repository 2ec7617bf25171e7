"""A small AudioLDM 2 in diffusers' layout, with every weight drawn; needs transformers."""

from typing import Any

import diffusers
import torch
import transformers as t

from .pipelines import drawn, kl

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def audioldm() -> Any:
    """The pipeline."""
    torch.manual_seed(0)
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "\u0120", *LETTERS]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    text = dict(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=1,
    )
    sound = dict(
        spec_size=64,
        num_mel_bins=64,
        depths=[1, 1],
        num_attention_heads=[1, 2],
        num_hidden_layers=2,
        hidden_size=32,
        patch_embeds_hidden_size=16,
    )
    language = t.GPT2LMHeadModel(
        t.GPT2Config(vocab_size=64, n_embd=8, n_head=2, n_layer=1, n_positions=64)
    )
    language.config.max_new_tokens = 3
    unet = diffusers.AudioLDM2UNet2DConditionModel(
        block_out_channels=(8, 16),
        in_channels=8,
        out_channels=8,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=((None, 8, 16), (None, 8, 16)),
    )
    vocoder = t.SpeechT5HifiGan(
        t.SpeechT5HifiGanConfig(
            model_in_dim=16,
            upsample_initial_channel=32,
            upsample_rates=[5, 4, 4, 2],
            upsample_kernel_sizes=[10, 8, 8, 4],
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1, 3]],
            normalize_before=False,
        )
    )
    return diffusers.AudioLDM2Pipeline(
        vae=kl(latent=8, in_channels=1, out_channels=1),
        text_encoder=t.ClapModel(
            t.ClapConfig(projection_dim=16, text_config=text, audio_config=sound)
        ),
        text_encoder_2=t.T5EncoderModel(
            t.T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
        ),
        projection_model=diffusers.AudioLDM2ProjectionModel(16, 16, 8),
        language_model=language,
        tokenizer=t.RobertaTokenizerFast(
            vocab={name: i for i, name in enumerate(names)}, merges=[], model_max_length=20
        ),
        tokenizer_2=t.T5TokenizerFast(
            vocab=[*pieces, *((letter, -3.0) for letter in LETTERS)],
            extra_ids=0,
            model_max_length=20,
        ),
        feature_extractor=t.ClapFeatureExtractor(feature_size=16),
        unet=drawn(unet),
        scheduler=diffusers.DDIMScheduler(
            beta_schedule="scaled_linear", beta_start=0.0015, beta_end=0.0195, clip_sample=False
        ),
        vocoder=drawn(vocoder),
    )
