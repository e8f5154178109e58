"""Figures: what they draw, on partial grids too; that they are the same each time; what is refused."""

import math
from pathlib import Path

import numpy as np
import pytest
from synthetic_results import configuration, evaluation, report, run, training

from hps.evidence.figures import style
from hps.evidence.figures.ablations import ablation
from hps.evidence.figures.frontier import frontier
from hps.evidence.figures.margins import margins
from hps.evidence.figures.training import smooth, training_curves, training_time
from hps.evidence.results import read_evaluation
from hps.evidence.table_rows import Choices, build, to_csv
from hps.evidence.tables import FRONTIER, TABLES, figures, tables
from hps.evidence.training_time import Time
from hps.evidence.training_time import to_csv as times_to_csv
from hps.support.errors import InputError

PAPER = Path(__file__).parents[2] / "paper"


@pytest.fixture
def make_table(tmp_path):
    """A function from a table's name, runs and margins to the path of the CSV."""

    def make(name: str, runs: list[dict | None], test_set: str = "hh_rlhf") -> str:
        prompts = [{"margin_human": margin} for margin in (0.0, 10.0, 20.0)]
        folders = [evaluation(tmp_path / name / str(i), of, prompts, test_set) for i, of in enumerate(runs)]
        chosen = Choices()
        rows = build(TABLES[name], map(read_evaluation, folders), chosen)
        path = tmp_path / f"{name}.csv"
        path.write_text(to_csv(TABLES[name], rows, chosen), encoding="utf-8")
        return str(path)

    return make


def drawn(draw, tables: list[str], folder: object = ""):
    """The figure of these tables; without `folder`, without the paper's numbers."""
    return draw([TABLES[Path(table).stem] for table in tables], tables, str(folder))


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def labels(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def markers(axes) -> list[tuple[float, float]]:
    """Points drawn with a marker."""
    lines = [line for line in axes.lines if line.get_marker() in "osD^v"]
    return [(float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)]


def test_margins_of_two_tables_beside_the_papers(make_table):
    methods = ["dpo-pl", "dpo-bt", "dpo-hps", "exo-hps"]
    tables = [
        make_table("table2", [None, *map(run, methods)]),
        make_table("table5", [run(method) for method in methods], "pku_saferlhf"),
    ]
    figure = drawn(margins, tables, PAPER)
    ours = ["HH-RLHF\nfine-tuning, ours", "PKU-SafeRLHF\ntransfer, ours"]
    assert titles(figure) == ours + [title.replace("ours", "paper") for title in ours]
    assert labels(figure) == ["PL", "BT", "HPS"]
    assert sorted(x for x, _ in markers(figure.axes[0])) == [10.0] * 4  # the SFT policy has none
    theirs = dict((round(y, 2), x) for x, y in markers(figure.axes[2]))
    assert theirs[0.25] == 2.723  # DPO-HPS: the lowest of the first reward's three
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["DPO", "EXO"]


def test_a_method_alone_and_beyond_the_paper(make_table):
    figure = drawn(margins, [make_table("table2", [run("kto-slic")])])
    assert titles(figure) == ["HH-RLHF\nfine-tuning, ours"]
    assert labels(figure) == ["SLIC"]
    assert markers(figure.axes[0]) == [(10.0, 0.0)]


def test_every_loss_has_a_colour_and_marker_of_its_own():
    losses = ["pl", "slic", "bt", "lipo", "hps", "hps_full"]
    looks = [style.look(loss, losses) for loss in losses]
    assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == len(losses)


def test_ablation_of_n(make_table):
    runs = [run(method, n=n) for n in (5, 50) for method in ("dpo-bt", "dpo-hps")]
    tables = [make_table("table6", runs), make_table("table7", runs, "pku_saferlhf")]
    figure = drawn(ablation, tables, PAPER)
    assert titles(figure)[::3] == [
        *("HH-RLHF\nfine-tuning, ours", "HH-RLHF\nfine-tuning, paper"),
        *("PKU-SafeRLHF\ntransfer, ours", "PKU-SafeRLHF\ntransfer, paper"),
    ]
    assert [axes.get_ylabel() for axes in figure.axes[:3]] == ["RM_DPO (nats)", "BLEU", "Reward"]
    assert figure.axes[0].get_xticks().tolist() == [5, 50]
    ((x, _),) = [point for point in markers(figure.axes[3]) if point[1] == 2.723]
    assert x == pytest.approx(100, abs=1)  # beside the tick, so that error bars do not hide each other


def test_ablation_of_one_value_and_one_loss(make_table):
    figure = drawn(ablation, [make_table("table6", [run(n=20)])])
    assert [markers(axes) for axes in figure.axes] == [[(20, 10.0)], [(20, 0.2)], [(20, 1.0)]]


def test_ablation_of_beta(make_table):
    table = make_table("table8", [run(beta=beta) for beta in (0.5, 0.1)])
    figure = drawn(ablation, [table], PAPER)
    assert [title.split(", ")[1] for title in titles(figure)] == ["ours", "ours", "paper", "paper"]
    assert markers(figure.axes[0]) == [(0.1, 3.0), (0.5, 3.0)]
    assert markers(figure.axes[1]) == [(0.1, 10.0), (0.5, 10.0)]
    assert (0.1, 11.767) in [(round(x, 1), y) for x, y in markers(figure.axes[2])]


def points_of(tmp_path, name: str, specs, runs: list[tuple[dict | None, dict]], test_set="hh_rlhf") -> str:
    """A table's CSV, of runs with changes to two prompts each."""
    folders = [
        evaluation(tmp_path / name / f"{test_set}{i}", of, [own, own], test_set) for i, (of, own) in enumerate(runs)
    ]
    path = tmp_path / f"{name}.csv"
    path.write_text(to_csv(specs[name], build(specs[name], map(read_evaluation, folders), Choices()), Choices()))
    return str(path)


def test_the_frontier_has_every_run_at_its_kl_once(tmp_path):
    specs = tables({"rates": {"key": "training.learning_rate"}, "rank": {"key": "training.lora_rank"}})
    assert figures(specs)[FRONTIER] == ["table2", "table8", "ablation_rates"]
    of = run("dpo-bt") | {"settings": {}}
    main = (of, {"kl": 3.0, "margin_human": 10.0})
    settings = {rate: of | {"settings": {"training.learning_rate": rate}} for rate in (4.0, 1.0)}
    rated = [(setting, {"kl": rate, "margin_human": 2 * rate}) for rate, setting in settings.items()]
    fewer_seeds = (of, {"kl": 3.5, "margin_human": 11.0})  # as the ablation has the run that Table 2 has too
    names = ["table2", "table8", "ablation_rates"]
    before, exo = (None, {"kl": None, "reward": 7.0}), (run("exo-hps"), {"kl": 9.0})
    made = [
        points_of(tmp_path, "table2", specs, [before, main, exo]),
        points_of(
            tmp_path, "table8", specs, [fewer_seeds, (run("dpo-bt", beta=0.5), {"kl": 2.0, "margin_human": 8.0})]
        ),
        points_of(tmp_path, "ablation_rates", specs, rated),
    ]
    figure = frontier([specs[name] for name in names], made, str(PAPER))
    assert titles(figure)[:2] == ["HH-RLHF\nfine-tuning, ours", "HH-RLHF\nfine-tuning, paper"]
    assert labels(figure) == ["BT", "HPS"]
    margin, paper, reward, _ = figure.axes  # no row for harm, which is not known
    assert markers(margin) == [(1.0, 2.0), (2.0, 8.0), (3.0, 10.0), (4.0, 8.0), (9.0, 1.0)]
    assert (margin.lines[1].get_alpha(), [line.get_alpha() for line in margin.lines][-1]) == (None, 0.35)
    assert (11.767, 2.723) in markers(paper)
    assert {line.get_ydata()[0] for line in reward.lines if line.get_linestyle() == "--"} == {7.0}  # SFT's


def test_the_frontier_has_a_row_for_harm_where_it_is_known(tmp_path):
    runs = [(None, {"harm": 0.5, "kl": None}), (run(), {"harm": 0.25, "kl": 2.0})]
    figure = frontier([TABLES["table2"]], [points_of(tmp_path, "table2", TABLES, runs)], "")
    assert [axes.get_ylabel() for axes in figure.axes] == ["RM_DPO (nats)", "Reward", "Harmful answers (share)"]
    assert markers(figure.axes[2]) == [(2.0, 0.25)]


def test_error_bars_span_the_interval(make_table):
    figure = drawn(ablation, [make_table("table6", [run()])])
    (bars,) = figure.axes[0].collections
    (segment,) = bars.get_segments()
    path = Path(make_table("table7", [run()], "pku_saferlhf"))  # the same prompts, so the same interval
    header, cells = (line.split(",") for line in path.read_text(encoding="utf-8").splitlines())
    row = dict(zip(header, cells, strict=True))
    assert segment[:, 1] == pytest.approx([float(row["rm_dpo_lo"]), float(row["rm_dpo_hi"])])


def times(folder: Path, **ratios: float) -> str:
    rows = [
        Time(loss, 1.0, math.nan, 1, 100, 5 if loss == "pl" else 100, 0.5 * ratio, math.nan, 100.0, ratio)
        for loss, ratio in ratios.items()
    ]
    path = folder / "training_time.csv"
    path.write_text(times_to_csv(rows), encoding="utf-8")
    return str(path)


def test_training_time_is_drawn_as_ratios(tmp_path):
    figure = drawn(training_time, [times(tmp_path, pl=4.0, bt=1.0)], PAPER)
    ratios = sorted(x for x, _ in markers(figure.axes[0]))
    assert ratios == pytest.approx([1.0, 1.0, 64.4 / 62.8, 168.4 / 62.8, 4.0])
    assert {text.get_text() for text in figure.axes[0].texts} >= {"2 s a step", "168.4 h"}
    assert figure.axes[0].get_xscale() == "linear"
    assert drawn(training_time, [times(tmp_path, pl=50.0, bt=1.0)]).axes[0].get_xscale() == "log"
    with pytest.raises(InputError, match=r"training_time\.csv: has no row bt"):
        drawn(training_time, [times(tmp_path, pl=4.0)])


def log(steps: int, gamma: float | None = None) -> list[dict]:
    return [
        {"step": step, "loss": 1 / step, "margin": 0.0, "grad_norm": 1.0, "gamma": gamma, "hardness": gamma}
        for step in range(1, steps + 1)
    ]


def test_training_curves(tmp_path):
    folders = [
        training(tmp_path / "bt", run("dpo-bt"), log=log(30)),
        training(tmp_path / "hps", run("dpo-hps"), log=log(30, gamma=2.5)),
        training(tmp_path / "exo", run("exo-bt"), log=log(3)),
        training(tmp_path / "pku", run("dpo-pl", "pku_saferlhf", n=5), log=log(3)),
    ]
    figure = training_curves(folders, "hh_rlhf")
    assert titles(figure)[:2] == ["DPO", "EXO"]
    assert labels(figure) == ["BT", "HPS"]
    assert len(figure.axes) == 5 * 2
    assert len(figure.axes[0].lines) == 4  # BT and HPS, each as recorded and smoothed
    (gamma,) = figure.axes[6].lines
    assert set(gamma.get_ydata()) == {2.5}
    assert not figure.axes[7].axison  # EXO-BT draws no negatives
    without = training_curves([folders[2]], "hh_rlhf")
    assert len(without.axes) == 3  # no row for what nobody recorded


def test_training_curves_refuse_what_cannot_share_a_panel(tmp_path):
    one, other = training(tmp_path / "a", run(n=5), log=log(2)), training(tmp_path / "b", run(n=20), log=log(2))
    with pytest.raises(InputError, match="n = 5 and 20"):
        training_curves([one, other], "hh_rlhf")
    with pytest.raises(InputError, match="none of the 1 trainings is on pku_saferlhf"):
        training_curves([one], "pku_saferlhf")
    (one / "log.jsonl").write_text('{"step": 1, "loss": 1}\n{"step"\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"log\.jsonl:2: not valid JSON"):
        training_curves([one], "hh_rlhf")


def test_smoothing_keeps_constants_and_averages_over_the_window():
    assert smooth(np.full(100, 3.0)) == pytest.approx(np.full(100, 3.0))
    assert smooth(np.arange(10.0)).tolist() == list(range(10))  # too short to smooth
    spike = np.zeros(100)
    spike[50] = 5.0
    assert smooth(spike)[48:53] == pytest.approx([1.0] * 5)
    assert smooth(spike)[47] == 0


def test_a_loss_that_saw_fewer_responses_says_so(tmp_path):
    figure = drawn(training_time, [times(tmp_path, pl=4.0, bt=1.0)])
    named = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert named == ["PL\nours: 5 of 100 responses", "BT"]
    folders = [training(tmp_path / loss, run(f"dpo-{loss}"), log=log(3), responses=k) for loss, k in SEEN.items()]
    assert labels(training_curves(folders, "hh_rlhf")) == ["PL (5 of 100 responses)", "BT"]
    prompts = [{"margin_human": 1.0}] * 2
    folders = [evaluation(tmp_path / f"{loss}-e", run(f"dpo-{loss}"), prompts, responses=k) for loss, k in SEEN.items()]
    path = tmp_path / "table2.csv"
    rows = build(TABLES["table2"], map(read_evaluation, folders), Choices())
    path.write_text(to_csv(TABLES["table2"], rows, Choices()), encoding="utf-8")
    assert labels(drawn(margins, [str(path)])) == ["PL (5 of 100 responses)", "BT"]


SEEN = {"pl": 5, "bt": 100}


def test_an_ablation_over_what_is_no_number_stands_side_by_side(tmp_path):
    spec = tables({"levels": {"key": "objective.gamma_levels"}})["ablation_levels"]
    settings = ({"objective.gamma_levels": [0]}, {"objective.gamma_levels": [-5, 5]})
    folders = [evaluation(tmp_path / str(i), run() | {"settings": own}, [{}, {}]) for i, own in enumerate(settings)]
    path = tmp_path / "ablation_levels.csv"
    rows = build(spec, map(read_evaluation, folders), Choices())
    path.write_text(to_csv(spec, rows, Choices()), encoding="utf-8")
    (axes,) = ablation([spec], [str(path)], PAPER).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "-5, 5"]


def test_the_command_writes_the_same_files_each_time(tmp_path, make_table):
    table = make_table("table2", [run("dpo-bt"), run("dpo-hps")])
    png, svg = tmp_path / "margins.png", tmp_path / "margins.svg"
    words = ["figure", "--name", "margins", "--config", configuration(tmp_path), "--out", tmp_path, "--tables", table]
    written = []
    for _ in range(2):
        report(*words, "--paper", PAPER)
        written.append((png.read_bytes(), svg.read_bytes()))
    assert written[0] == written[1]
    assert written[0][0].startswith(b"\x89PNG")
    assert b"<svg" in written[0][1]
    assert b"<dc:date>" not in written[0][1]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("gone/table2.csv", r"gone/table2\.csv: missing"),
        ("table2/table6.csv", "has no column n"),
        ("table2/other.csv", "--name: other: no such table"),
    ],
)
def test_the_command_ends_in_one_line(tmp_path, make_table, table, message):
    made = Path(make_table("table2", [run()]))
    for name in ("table6", "other"):
        (made.parent / "table2").mkdir(exist_ok=True)
        (made.parent / "table2" / f"{name}.csv").write_bytes(made.read_bytes())
    words = ["figure", "--name", "x", "--config", configuration(tmp_path), "--out", tmp_path / "out", "--tables"]
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        report(*words, tmp_path / table)
    assert not (tmp_path / "out").exists()


def test_a_table_without_trained_policies_cannot_be_drawn(make_table):
    with pytest.raises(InputError, match="has no trained policy to draw"):
        drawn(margins, [make_table("table2", [None])])
