import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cxrlab.callbacks import KeepMemory
from cxrlab.machine import memory


class Line(pl.LightningModule):
    def __init__(self, said: list[str], fails: bool) -> None:
        super().__init__()
        self.layer, self.said, self.fails = nn.Linear(1, 1), said, fails

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.said.append(f"step {batch_idx}")
        if self.fails and batch_idx == 1:
            raise RuntimeError("as if memory were short")
        loss: torch.Tensor = self.layer(batch[0]).mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


@pytest.mark.parametrize("fails", [False, True])
def test_from_the_first_step_to_the_end(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(memory, "keep_freed", lambda: said.append("kept") or True)  # type: ignore[func-returns-value]
    monkeypatch.setattr(memory, "return_freed", lambda: said.append("returned") or True)  # type: ignore[func-returns-value]
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[KeepMemory()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(TensorDataset(torch.ones(2, 1)), 1)
    if fails:
        with pytest.raises(RuntimeError, match="as if"):
            trainer.fit(Line(said, fails), loader)
    else:
        trainer.fit(Line(said, fails), loader)
    steps = ["step 1"] if fails else ["step 1", "step 0", "step 1"]
    assert said == ["step 0", "kept", *steps, "returned"]
