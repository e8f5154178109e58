"""Full fine-tuning of a model too large for one device: weights, gradients and moments in shards (FSDP2, ZeRO-3).

Each device keeps one part of every weight, of its gradient and of what the optimizer remembers of it. A decoder layer
is put together for as long as it computes, then taken apart again. Devices that share a model compute in step: each
makes the same passes, on prompts of its own.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.distributed as dist

from hps.logprobs.halves import Halves

Value = TypeVar("Value")


def shard(halves: Halves, device: torch.device) -> None:
    """Replace the model's weights by this process's shards of them in float32, on `device`.

    Each decoder layer is one unit, embeddings and output head are one each unless they are tied, and what remains is
    the last. Gradients are summed over the processes, not averaged.

    Args:
        halves: of a model on the CPU, the same in every process; a layer at a time goes through the device.
    """
    # Seconds of import that only sharded runs pay.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    embeddings, head = halves.decoder.get_input_embeddings(), halves.log_probs
    apart = [] if head.head.weight is embeddings.weight else [embeddings, head]
    units = [*halves.decoder.layers, *apart, halves]
    for unit in units:
        fully_shard(unit.float(), mesh=mesh)
    for unit in units:
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)  # gloo has no other sum
    if apart:
        embeddings.set_unshard_in_backward(False)  # its gradient does not depend on it
    register_fsdp_forward_method(halves, "hidden")


def most(count: int, device: torch.device) -> int:
    """The largest `count` of all processes; `device` is this one's."""
    counts = torch.tensor([count], device=device)
    dist.all_reduce(counts, dist.ReduceOp.MAX)
    return int(counts)


def from_first(value: Value) -> Value:
    """The first process's `value`, once all have asked for it; of a single process its own."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def wait() -> None:
    """Return when all processes have come here."""
    dist.barrier()


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor: its shard, or all of one that is not sharded."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor with all its shards, on every process (which all must ask for it)."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def whole_state(model: torch.nn.Module, keep: bool) -> dict[str, torch.Tensor]:
    """The model's state with whole tensors on the CPU; every process takes part, and those that `keep` get it.

    Tied weights stay one tensor, so they are saved once.
    """
    found: dict[int, torch.Tensor] = {}
    state = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in found:
            together = whole(tensor.detach())
            found[id(tensor)] = together.cpu() if keep else together.new_empty(0)
        state[name] = found[id(tensor)]
    return state if keep else {}
