"""Lines without a terminal, a bar with one."""

from memjax.training.progress import Progress, describe_evaluation

ROW = {"loss": 1.25, "accuracy": 0.5, "learning_rate": 1e-3, "tokens_per_second": 1234.0, "seconds": 3.0}


def test_lines_come_now_and_then_and_at_the_end(lines):
    with Progress(0, 9, lines.append, bar=False) as progress:
        for step in range(1, 10):
            progress.advance()
            progress.show(step, ROW)
    assert [line.split("  ")[0] for line in lines] == ["step 1/9", "step 9/9"]
    assert "loss 1.2500  accuracy 0.500  learning rate 1.00e-03  1,234 tokens/s" in lines[0]


def test_a_bar_shows_the_numbers_and_lets_lines_pass(lines, capsys):
    with Progress(0, 2, lines.append, bar=True) as progress:
        progress.show(1, ROW)
        progress.advance()
        progress.say("evaluated")
    assert lines == ["evaluated"]
    assert "loss 1.2500" in capsys.readouterr().err


def test_an_evaluation_is_told_by_its_summary():
    assert describe_evaluation({"eval/mqar/pairs=4/accuracy": 0.5, "eval/accuracy": 0.25}) == "accuracy 0.25"
    assert describe_evaluation({"eval/a/b": 0.5}) == "a/b 0.5"
