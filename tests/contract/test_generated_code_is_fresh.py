import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_generated_code_is_fresh() -> None:
    """The code below proto/src is what the generator makes of proto/weave."""
    command = [sys.executable, str(ROOT / "scripts" / "generate-protos"), "--check"]

    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert result.returncode == 0, result.stderr
