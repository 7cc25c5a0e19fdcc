"""Run one stage, `python -m pipeline <stage> [--batch N | --run-id ID]`, or one command.

Exit codes: 0 done, 99 nothing to do (the rest of the run is skipped), 1 failed. The result is one JSON object with a
`summary` and the peak memory of the process (`peak_mib`). It is written to the file that RESULT_FILE names, or to the
termination message of the pod.
"""

from __future__ import annotations

from pipeline.runner import main

if __name__ == "__main__":
    main()
