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
        bad file of the results), ``checkpoints`` (by folder, the steps of those that verify: training goes on from
        the last), ``bad_checkpoints`` (one text a bad file), ``in_use_by`` (who holds the lock, else None).

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
    checkpoints, bad, lost = {}, [], False
    for parent in sorted(run.folder.glob(f"**/{CHECKPOINTS}")):
        whole, found = find_checkpoints(parent.parent)
        checkpoints[parent.relative_to(run.folder).as_posix()] = [checkpoint.step for checkpoint in whole]
        bad += found
        lost |= bool(found) and not whole
    holder = (read_holder(run.folder) or "another process") if is_locked(run.folder) else None
    return {
        "folder": str(run.folder),
        "state": "damaged" if faults or lost else "unfinished" if manifest is None else "finished",
        "steps": sorted((manifest or {}).get("steps", {})),
        "faults": faults,
        "checkpoints": checkpoints,
        "bad_checkpoints": bad,
        "in_use_by": holder,
    }
