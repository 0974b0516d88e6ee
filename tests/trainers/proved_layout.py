"""A training whose average forgets, when it is loaded, how its numbers lay in memory."""

import torch

import trainer_shim


class Average:
    """Of one weight."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.mean = weight.detach().clone()

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"mean": self.mean}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.mean = state["mean"].contiguous()


torch.manual_seed(1)
torch.set_num_threads(1)
model = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
average = Average(model.weight)
shim = trainer_shim.attach(model=model, average=average)
for _ in shim.epochs(2):
    for number in shim.batches(range(4)):
        with torch.no_grad():
            model.weight.mul_(0.9)
            average.mean.mul_(0.5)
        # What a kernel that walks raw memory would do.
        shim.report(loss=number + average.mean.as_strided((average.mean.numel(),), (1,))[1].item())
