"""Transformer-XL (arXiv 1901.02860): a language model that remembers the states of the segments before.

LayerNorm comes after the residual sum, as in the original, so no weight of it is scale-invariant; weight normalisation
of the linear layers makes their directions so, which is the paper's comparison (arXiv 2006.08217).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from tangential.experiments.nets.adaptive_softmax import AdaptiveSoftmax
from tangential.experiments.nets.relative_attention import RelativeAttention, waves


class Layer(nn.Module):
    """Attention and two linear layers, each added to its input and normalised after that."""

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
        """Go one layer up; the arguments are those of `RelativeAttention`."""
        found = self.attention(states, seen, sinusoids, biases, hidden)
        states = self.attention_norm(states + self.dropout(found))
        inner = self.dropout(self.inner(states).relu())
        return self.norm(states + self.dropout(self.outer(inner)))


class TransformerXL(nn.Module):
    """The states of a segment's tokens, given those of the tokens before. A pure function: it keeps nothing.

    Args:
        vocabulary: How many tokens there are.
        layers: How many layers.
        width: Of the states; even.
        heads: Of the attention.
        head_width: Of each head.
        inner: Width between the two linear layers.
        dropout: Share of embeddings, sinusoids, and outputs of layers that training drops.
        attention_dropout: The same of the attention weights.
        memory: How many states of each layer are remembered, in training.
        test_memory: The same in evaluation.
        same_length: Whether in evaluation every token looks back on `test_memory` tokens, itself among them, and not
            the last ones of a segment on more than the first.
        clamp: Distances above this are taken for this; None for no bound.

    Raises:
        ValueError: A size below one, an odd width, or a memory that leaves a token nothing to look at.
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
        sizes = {"vocabulary": vocabulary, "layers": layers, "width": width, "heads": heads, "head_width": head_width}
        _check(sizes | {"inner": inner}, least=1)
        _check({"memory": memory, "test_memory": test_memory, "clamp": 0 if clamp is None else clamp}, least=0)
        if width % 2:
            raise ValueError(f"width={width}: must be even, half of the positions' waves being sines")
        if same_length and not test_memory:
            raise ValueError("same_length=True: needs a test_memory of at least 1, for a token to see itself")
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
        self._draw()

    @torch.no_grad()
    def _draw(self) -> None:
        """Normal weights of deviation 0.02, as the original has them; biases at zero."""
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.02)
            elif "norm" not in name:
                parameter.zero_()

    def forward(self, tokens: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read one segment.

        Args:
            tokens: `(batch, length)`.
            memory: What the segment before gave; None at the start of a text.

        Returns:
            The states `(batch, length, width)`, and the memory for the next segment, without a gradient,
            `(layers, batch, remembered, width)`.

        Raises:
            ValueError: The memory is of another number of texts.
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
        for layer, past in zip(self.layers, before, strict=True):
            seen = torch.cat([past, states], dim=1)
            remembered.append(seen[:, max(keys - kept, 0) :].detach())
            states = layer(states, seen, sinusoids, self.biases, hidden)
        return self.dropout(states), torch.stack(remembered)

    def _hidden(self, back: Tensor, queries: int) -> Tensor:
        """Which keys, so far back from the last query, each query must not see: what comes after it, or is too old."""
        distance = back - torch.arange(queries - 1, -1, -1, device=back.device)[:, None]
        hidden = distance < 0
        if self._same_length and not self.training:
            hidden = hidden | (distance >= self._test_memory)
        return hidden


class LanguageModel(nn.Module):
    """A Transformer-XL that predicts each next token and carries its memory along a text.

    It is called with one segment after the other. In training the memory is part of `state_dict`, so that a run that is
    stopped within a text goes on from the same one; evaluation has a memory of its own and leaves that one alone.

    Args:
        body: Turns tokens into states.
        head: Predicts the next token from a state.
    """

    def __init__(self, body: TransformerXL, head: AdaptiveSoftmax) -> None:
        super().__init__()
        self.body, self.head = body, head
        # No buffer: its shape changes, and processes that train together each have their own.
        self._carried: dict[bool, Tensor | None] = {True: None, False: None}

    def forward(self, tokens: Tensor, targets: Tensor, first: bool = True, last: bool = True) -> Tensor:
        """Measure how surprising the targets are.

        Args:
            tokens: One segment of each text, `(batch, length)`.
            targets: The token after each, or -100 where nothing is to be predicted, `(batch, length)`.
            first: Whether the texts begin here; what was remembered is forgotten before.
            last: Whether they end here; what is remembered is forgotten after.

        Returns:
            Minus the logarithm of each target's probability, in nats, 0 where it is ignored, `(batch, length)`.

        Raises:
            ValueError: The segments follow others, and of these nothing, or another number, is remembered.
        """
        memory = None if first else self._carried[self.training]
        if memory is None and not first:
            raise ValueError("these segments follow others that the model has not read; begin with first=True")
        states, memory = self.body(tokens, memory)
        self._carried[self.training] = None if last else memory
        return self.head(states, targets)

    def get_extra_state(self) -> Tensor:
        """Give the memory of the training for `state_dict`; an empty tensor if there is none."""
        memory = self._carried[True]
        return torch.empty(0) if memory is None else memory

    def set_extra_state(self, state: Tensor) -> None:
        """Take the memory back."""
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
    """Make a Transformer-XL, by default of the size that its authors call base.

    Args:
        vocabulary: How many tokens there are, the most frequent first if there are `cutoffs`.
        layers: See `TransformerXL`, as for what follows up to `clamp`.
        width: Of the states.
        heads: Of the attention.
        head_width: Of each head.
        inner: Width between the two linear layers of a layer.
        dropout: Share that training drops.
        attention_dropout: The same of the attention weights.
        memory: How many states are remembered in training.
        test_memory: The same in evaluation.
        same_length: Whether in evaluation every token looks back equally far.
        clamp: The largest distance that is told from others.
        cutoffs: Where the clusters of an adaptive softmax begin; none for a plain softmax.
        tied: Whether the softmax has the vectors of the embedding.
        weight_normalised: Whether every linear layer within the layers has its rows' directions and lengths apart,
            as `parametrizations.weight.original1` and `original0`. The start is the same function.

    Raises:
        ValueError: A size below one, an odd width, or cut-offs outside the vocabulary.

    Example:
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


def _check(sizes: dict[str, int], *, least: int) -> None:
    for name, size in sizes.items():
        if size < least:
            raise ValueError(f"{name}={size}: must be at least {least}")
