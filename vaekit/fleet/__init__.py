"""Train many small models at once: tensors in, tensors out.

A *member* of a fleet is a seed, the weights of its objective and the images that it sees. All members share one
architecture, one objective and one budget. A member's result depends only on its own settings, not on the other members
of the fleet: its start, its batches and its noise are stateless draws of its own seed, and nothing is averaged, clipped
or counted over members.

Two backends do the same work. *cores* steps each member as an ordinary module on a thread of its own, one intra-op
thread each: on a CPU that is faster than stepping one model after the other with all threads, and bit for bit the same
in any company and with any number of cores. (A fleet smaller than the machine shares its threads out, and then its
rounding depends on both, unless its state is kept or it is asked not to: see `threads_each`.) *stack* steps all members
as one model with a leading axis (`torch.func.vmap`): the way of a GPU, where a step is one CUDA graph, and of models so
small that Python's overhead rules. The two agree to rounding.

While it trains, one function is told where it stands (`progress`), and one says whether to stop.

Nothing here knows a disk, a key or a VAE: the objective says what is minimised, and who wants to keep a fleet's state
in the middle of its training hands over a `Checkpointer`.
"""

from vaekit.fleet.cores import workers
from vaekit.fleet.members import PRECISIONS, Budget, Fleet, FleetMember, Trained, grid
from vaekit.fleet.progress import Newest, Progress, Stopped
from vaekit.fleet.state import HISTORY_EVERY, Checkpointer, State
from vaekit.fleet.stepping import batch_indices, new_model
from vaekit.fleet.training import default_backend, device_problem, train_fleet

__all__ = [
    "HISTORY_EVERY",
    "PRECISIONS",
    "Budget",
    "Checkpointer",
    "Fleet",
    "FleetMember",
    "Newest",
    "Progress",
    "State",
    "Stopped",
    "Trained",
    "batch_indices",
    "default_backend",
    "device_problem",
    "grid",
    "new_model",
    "train_fleet",
    "workers",
]
