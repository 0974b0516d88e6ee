"""A training as people write them, with torch, a scheduler and two data-loader workers."""

import torch
from torch.utils.data import DataLoader, TensorDataset

import trainer_shim

torch.manual_seed(1)
torch.set_num_threads(1)
rows = torch.randn(24, 4, generator=torch.Generator().manual_seed(2))
loader = DataLoader(TensorDataset(rows), 4, shuffle=True, num_workers=2)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 4))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
shim = trainer_shim.attach(model=model, optimizer=optimizer, scheduler=scheduler)
for _ in shim.epochs(3):
    for (batch,) in shim.batches(loader):
        loss = (model(batch) - batch).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        shim.report(loss=loss)
