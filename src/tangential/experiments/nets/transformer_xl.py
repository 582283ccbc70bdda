"""Transformer-XL (arXiv 1901.02860): a language model with segment-level recurrence.

A text is read in segments `(batch, length)`. In layer n the queries are the segment's states, the keys and values those
states and the *memory*: the inputs that layer n had for the tokens before, without a gradient. So the memory is one
tensor per layer, `(layers, batch, remembered, width)`, and information reaches back `layers * remembered` tokens.

Two invariants make it right. Positions enter as distances only (`relative_attention`), so that states computed in an
earlier segment stay valid keys. And the body is a pure function of tokens and memory; only `LanguageModel` has state,
one memory for training and another for evaluation, so that scoring in the middle of a run changes nothing.

LayerNorm comes after the residual sum, as in the original, so no weight of it is scale-invariant; weight normalisation
of the linear layers makes their directions so, which is the paper's comparison (arXiv 2006.08217).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from tangential.experiments.nets.adaptive_softmax import AdaptiveSoftmax
from tangential.experiments.nets.relative_attention import RelativeAttention, waves
from tangential.experiments.settings.bounds import check_at_least


class Layer(nn.Module):
    """Attention and a feed-forward net, each added to its input and followed by LayerNorm (post-norm)."""

    def __init__(
        self, *, width: int, heads: int, head_width: int, inner: int, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        self.attention = RelativeAttention(width=width, heads=heads, head_width=head_width, dropout=attention_dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.inner, self.outer = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, seen: Tensor, sinusoids: Tensor, biases: Tensor, hidden: Tensor) -> Tensor:
        """States of the next layer, `(batch, queries, width)`; the arguments are those of `RelativeAttention`."""
        attended = self.attention(states, seen, sinusoids, biases, hidden)
        states = self.attention_norm(states + self.dropout(attended))
        inner = self.dropout(self.inner(states).relu())
        return self.norm(states + self.dropout(self.outer(inner)))


class TransformerXL(nn.Module):
    """States of a segment's tokens, given the memory of the tokens before. It holds no state itself.

    Args:
        vocabulary: Number of tokens.
        layers: Number of layers.
        width: Of the states; even.
        heads: Number of attention heads.
        head_width: Of each head.
        inner: Width of the feed-forward nets.
        dropout: Dropout probability of embeddings, sinusoids, and outputs of layers.
        attention_dropout: The same of the attention weights.
        memory: Length of the memory in training, in tokens.
        test_memory: The same in evaluation.
        same_length: Whether in evaluation every token attends to exactly `test_memory` tokens, itself among them; else
            the last tokens of a segment attend to more than the first.
        clamp: Largest distance; greater ones count as this. None for no bound.

    Raises:
        ValueError: A size below one, an odd width, or `same_length` without a memory.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        layers: int,
        width: int,
        heads: int,
        head_width: int,
        inner: int,
        dropout: float,
        attention_dropout: float,
        memory: int,
        test_memory: int,
        same_length: bool,
        clamp: int | None,
    ) -> None:
        super().__init__()
        check_at_least(1, vocabulary=vocabulary, layers=layers, inner=inner)
        check_at_least(1, width=width, heads=heads, head_width=head_width)
        check_at_least(0, memory=memory, test_memory=test_memory, clamp=clamp)
        if width % 2:
            raise ValueError(f"width={width}: must be even, for half of the sinusoids are sines and half cosines")
        if same_length and not test_memory:
            raise ValueError("same_length=True: needs a test_memory of at least 1, for a token to attend to itself")
        self._memory, self._test_memory, self._same_length, self._clamp = memory, test_memory, same_length, clamp
        self.embedding = nn.Embedding(vocabulary, width)
        self.biases = nn.Parameter(torch.empty(2, heads, head_width))
        self.layers = nn.ModuleList(
            Layer(
                width=width,
                heads=heads,
                head_width=head_width,
                inner=inner,
                dropout=dropout,
                attention_dropout=attention_dropout,
            )
            for _ in range(layers)
        )
        self.dropout = nn.Dropout(dropout)
        self._init_weights()

    @torch.no_grad()
    def _init_weights(self) -> None:
        """Normal weights of standard deviation 0.02, as in the original; biases at zero."""
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.02)
            elif "norm" not in name:
                parameter.zero_()

    def forward(self, tokens: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """States of one segment, and the memory for the next.

        Args:
            tokens: `(batch, length)`.
            memory: As the call for the segment before returned it; None at the start of a text.

        Returns:
            The states `(batch, length, width)`, and the next memory, detached, `(layers, batch, remembered, width)`.

        Raises:
            ValueError: The memory is of another batch size.
        """
        states = self.dropout(self.embedding(tokens) * self.embedding.embedding_dim**0.5)
        nothing = states.new_zeros(len(self.layers), len(tokens), 0, states.shape[-1])
        before = nothing if memory is None else memory.to(states)
        if before.shape[1] != len(tokens):
            raise ValueError(f"{len(tokens)} segments follow {before.shape[1]}; begin anew where the texts change")
        keys = before.shape[2] + tokens.shape[1]
        back = torch.arange(keys - 1, -1, -1, device=tokens.device)
        distances = back.clamp(0, self._clamp).to(torch.promote_types(states.dtype, torch.float32))
        sinusoids = self.dropout(waves(distances, states.shape[-1]).to(states))
        hidden = self._hidden(back, tokens.shape[1])
        kept = self._memory if self.training else self._test_memory
        remembered = []
        # The memory of a layer is what went *into* it, so it is taken before the layer runs.
        for layer, past in zip(self.layers, before, strict=True):
            seen = torch.cat([past, states], dim=1)
            remembered.append(seen[:, max(keys - kept, 0) :].detach())
            states = layer(states, seen, sinusoids, self.biases, hidden)
        return self.dropout(states), torch.stack(remembered)

    def _hidden(self, back: Tensor, queries: int) -> Tensor:
        """Mask `(queries, keys)` of the keys after each query, or farther back than `same_length` allows.

        `back` is each key's distance from the last query, `(keys,)`.
        """
        distance = back - torch.arange(queries - 1, -1, -1, device=back.device)[:, None]
        hidden = distance < 0
        if self._same_length and not self.training:
            hidden = hidden | (distance >= self._test_memory)
        return hidden


class LanguageModel(nn.Module):
    """Next-token prediction by a Transformer-XL that carries its memory from one segment of a text to the next.

    The memory of training is part of `state_dict`, so that a run resumes in the middle of a text with the same one;
    evaluation has a memory of its own.

    Args:
        body: From tokens to states.
        head: From states and next tokens to their negative log-likelihood.
    """

    def __init__(self, body: TransformerXL, head: AdaptiveSoftmax) -> None:
        super().__init__()
        self.body, self.head = body, head
        # Not a buffer: its shape changes, and DDP would copy the first process's memory to all others.
        self._carried: dict[bool, Tensor | None] = {True: None, False: None}

    def forward(self, tokens: Tensor, targets: Tensor, first: bool = True, last: bool = True) -> Tensor:
        """Negative log-likelihood of the next tokens.

        Args:
            tokens: One segment of each text, `(batch, length)`.
            targets: The token after each, or -100 where nothing is predicted, `(batch, length)`.
            first: Whether the texts begin here; the memory is cleared before.
            last: Whether they end here; the memory is cleared after.

        Returns:
            `-log p(target)` of each target in nats, 0 where it is ignored, `(batch, length)`.

        Raises:
            ValueError: Segments that follow others without a memory of them, or with one of another batch size.
        """
        memory = None if first else self._carried[self.training]
        if memory is None and not first:
            raise ValueError("first=False, but there is no memory of the segments before; begin with first=True")
        states, memory = self.body(tokens, memory)
        self._carried[self.training] = None if last else memory
        return self.head(states, targets)

    def get_extra_state(self) -> Tensor:
        """Memory of training, for `state_dict`; an empty tensor if there is none."""
        memory = self._carried[True]
        return torch.empty(0) if memory is None else memory

    def set_extra_state(self, state: Tensor) -> None:
        """Load the memory of training from a `state_dict`."""
        self._carried[True] = None if state.ndim == 1 else state.clone()


def transformer_xl(
    *,
    vocabulary: int,
    layers: int = 16,
    width: int = 410,
    heads: int = 10,
    head_width: int = 41,
    inner: int = 2100,
    dropout: float = 0.1,
    attention_dropout: float = 0.0,
    memory: int = 150,
    test_memory: int = 640,
    same_length: bool = True,
    clamp: int | None = 400,
    cutoffs: tuple[int, ...] = (),
    tied: bool = True,
    weight_normalised: bool = False,
) -> LanguageModel:
    """Language model on a Transformer-XL, by default of the size that its authors call base.

    Args:
        vocabulary: Number of tokens, the most frequent first if there are `cutoffs`.
        layers: See `TransformerXL`, as for what follows up to `clamp`.
        width: Of the states.
        heads: Of the attention.
        head_width: Of each head.
        inner: Width of the feed-forward nets.
        dropout: Dropout probability.
        attention_dropout: The same of the attention weights.
        memory: Length of the memory in training, in tokens.
        test_memory: The same in evaluation.
        same_length: Whether in evaluation every token attends equally far back.
        clamp: Largest distance; greater ones count as this.
        cutoffs: First words of the clusters of an adaptive softmax; empty for a plain softmax.
        tied: Whether the softmax shares the embedding's vectors.
        weight_normalised: Whether the linear layers are weight-normalised: `parametrizations.weight.original1` holds
            the rows' directions, `original0` their lengths. The initial function is the same.

    Raises:
        ValueError: A size below one, an odd width, or cut-offs outside the vocabulary.

    Examples:
        >>> net = transformer_xl(vocabulary=10, layers=2, width=8, heads=2, head_width=4, inner=16)
        >>> tokens = torch.tensor([[1, 2, 3, 4]])
        >>> net(tokens[:, :-1], tokens[:, 1:]).shape
        torch.Size([1, 3])
    """
    body = TransformerXL(
        vocabulary=vocabulary,
        layers=layers,
        width=width,
        heads=heads,
        head_width=head_width,
        inner=inner,
        dropout=dropout,
        attention_dropout=attention_dropout,
        memory=memory,
        test_memory=test_memory,
        same_length=same_length,
        clamp=clamp,
    )
    if weight_normalised:
        for module in [each for each in body.layers.modules() if isinstance(each, nn.Linear)]:
            weight_norm(module, dim=0)
    weight = body.embedding.weight if tied else None
    return LanguageModel(body, AdaptiveSoftmax(width=width, words=vocabulary, cutoffs=cutoffs, weight=weight))
