"""Back-off, logs and the words for an end."""

from pathlib import Path

from workers.stack.process import Backoff, describe_exit, last_lines, prepare_log


def test_the_wait_doubles_up_to_a_bound_and_starts_over_after_a_steady_run() -> None:
    backoff = Backoff(first=1, longest=5, steady=30)
    assert [backoff.after(0.1) for _ in range(5)] == [1, 2, 4, 5, 5]
    assert backoff.after(31) == 1
    assert backoff.after(0.1) == 2


def test_a_log_past_its_limit_is_set_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    for number in range(6):
        prepare_log(log, limit=4)
        log.write_text(f"{number}" * 4)
    kept = {file.name: file.read_text()[0] for file in tmp_path.iterdir()}
    assert kept == {"api.log": "5", "api.log.1": "4", "api.log.2": "3", "api.log.3": "2"}


def test_a_log_is_for_its_owner_only(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    prepare_log(log)
    assert log.stat().st_mode & 0o077 == 0


def test_the_end_of_a_log_leaves_empty_lines_out(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    log.write_text("a\nb\n\nc\n")
    assert last_lines(log, 3) == "b\nc"


def test_an_end_is_told_in_words() -> None:
    assert describe_exit(3) == "ended with exit code 3"
    assert describe_exit(-9) == "was ended by SIGKILL"
