"""What a run folder holds, whether it is whole, and whether it can be gone on with."""

from __future__ import annotations

from typing import Any

from wernicke.core.errors import InputError
from wernicke.store.atomic import PathLike
from wernicke.store.checkpoint import CHECKPOINTS, find_checkpoints
from wernicke.store.lock import is_locked, read_holder
from wernicke.store.run import RunFolder


def inspect_run(path: PathLike) -> dict[str, Any]:
    """Verify all hashes of a run folder; nothing is changed.

    Returns
    -------
    dict
        ``state`` ("finished", "unfinished", "damaged"), ``steps`` (names of finished ones), ``faults`` (one text a
        bad file of the results), ``checkpoints`` (steps of those that verify), ``bad_checkpoints`` (one text a bad
        file), ``resume_step`` (the step that training would go on from, None without checkpoints), ``in_use_by``
        (who holds the lock, else None).

    Raises
    ------
    InputError
        E-REF: no run folder.
    """
    run = RunFolder.open(path)
    try:
        manifest, faults = run.manifest, run.verify() if run.manifest is not None else []
    except InputError as error:
        manifest, faults = {"steps": {}}, [str(error)]
    whole, bad = find_checkpoints(run.folder)
    for stage in sorted(run.folder.glob(f"**/{CHECKPOINTS}")):
        if stage.parent != run.folder:
            bad += find_checkpoints(stage.parent)[1]
    holder = (read_holder(run.folder) or "another process") if is_locked(run.folder) else None
    damaged = bool(faults) or (bool(bad) and not whole)
    return {
        "folder": str(run.folder),
        "state": "damaged" if damaged else "unfinished" if manifest is None else "finished",
        "steps": sorted((manifest or {}).get("steps", {})),
        "faults": faults,
        "checkpoints": [checkpoint.step for checkpoint in whole],
        "bad_checkpoints": bad,
        "resume_step": whole[-1].step if whole else None,
        "in_use_by": holder,
    }
