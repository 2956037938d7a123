"""Prices, break-even and estimates, by hand-computed figures and by laws that hold for any."""

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pianofarm.cli.cost import parse_speeds, show_estimate
from pianofarm.cost import break_even, estimate, offers
from pianofarm.prices import HOURS_PER_YEAR, PriceTable
from pianofarm_common.errors import BadOption, BadSettings

TABLE = """
currency = "EUR"
storage_per_gb_month = 0.02
spot_overhead = 0.25

[[machine]]
name = "rented"
device = "gpu"
workers = 2
on_demand_per_h = 3.6
spot_per_h = 1.0

[[machine]]
name = "bought"
device = "cpu"
workers = 4
purchase = 8766.0
lifetime_years = 1.0
power_w = 1000.0
power_per_kwh = 0.5
"""


@pytest.fixture
def table() -> PriceTable:
    return PriceTable.parse(TABLE, "table")


def test_an_hour_of_audio_costs_the_machines_hour_over_its_audio(table):
    (spot, demand) = offers(table, {"gpu": 50.0}, piece_s=36.0, utilization=0.5)

    # 2 workers x 50 audio s/s, busy half of the time: 50 hours of audio an hour.
    assert demand.per_audio_h == pytest.approx(3.6 / 50)
    assert demand.per_1000_pieces == pytest.approx(3.6 / 50 * 10)
    # A quarter of the work on spot machines is done twice.
    assert spot.per_audio_h == pytest.approx(1.0 * 1.25 / 50)


def test_stored_audio_costs_its_first_month(table):
    bare = offers(table, {"gpu": 50.0}, piece_s=100.0, utilization=1.0)
    stored = offers(table, {"gpu": 50.0}, piece_s=100.0, utilization=1.0, audio_bytes_per_s=50_000)

    # 1,000 pieces of 100 s at 50 kB/s are 5 GB.
    assert stored[0].per_1000_pieces - bare[0].per_1000_pieces == pytest.approx(5 * 0.02)


def test_an_owned_machine_costs_its_years_and_its_power(table):
    (own,) = offers(table, {"cpu": 10.0}, piece_s=1.0, utilization=0.5)

    # A unit an hour for the purchase, half a unit an hour while it works, 40 audio s/s half of the time.
    assert own.per_audio_h == pytest.approx((1.0 + 0.25) / 20)


def test_machines_without_a_measured_speed_are_not_guessed(table):
    assert offers(table, {}, piece_s=1.0, utilization=1.0) == []


@given(cpu=st.floats(0.5, 500), gpu=st.floats(0.5, 500))
def test_at_the_break_even_both_ways_cost_the_same(cpu: float, gpu: float):
    table = PriceTable.parse(TABLE, "table")
    demand = next(o for o in offers(table, {"gpu": gpu}, piece_s=1, utilization=1.0) if o.kind == "on demand")

    for point in break_even(table, {"cpu": cpu}, demand):
        owned = point.owned
        busy_h = point.audio_h_per_year / (cpu * owned.workers)
        assert owned.fixed_per_year + busy_h * owned.busy_per_h == pytest.approx(
            point.audio_h_per_year * demand.per_audio_h
        )
        assert point.utilization == pytest.approx(busy_h / HOURS_PER_YEAR)


def test_owning_never_pays_where_its_power_costs_more_than_rent(table):
    demand = offers(table, {"gpu": 1000.0}, piece_s=1, utilization=1.0)[-1]

    assert break_even(table, {"cpu": 0.01}, demand) == []


def test_the_price_table_of_the_package_is_valid(tmp_path):
    assert len(PriceTable.load(tmp_path).machine) > 5


def test_the_users_table_wins_over_the_packages(tmp_path):
    (tmp_path / "prices.toml").write_text(TABLE)

    assert PriceTable.load(tmp_path).currency == "EUR"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("workers = 2", "workers = 0"), "machine.0.workers"),
        (("spot_per_h = 1.0", "spot_per_h = nan"), "machine.0.spot_per_h"),
        (("on_demand_per_h = 3.6\nspot_per_h = 1.0", ""), "rented"),
        (("purchase = 8766.0", "purchase = 8766.0\non_demand_per_h = 1.0"), "not both"),
        (('currency = "EUR"', "currency = EUR"), "not TOML"),
        (("spot_overhead", "spot_overhed"), "spot_overhed"),
    ],
)
def test_a_bad_price_table_is_one_line_that_names_the_entry(change, says):
    with pytest.raises(BadSettings, match=says) as caught:
        PriceTable.parse(TABLE.replace(*change), "my.toml")
    assert "\n" not in str(caught.value).strip()
    assert "my.toml" in str(caught.value)


def test_a_table_that_is_not_there_is_said(tmp_path):
    with pytest.raises(BadSettings, match=r"nowhere\.toml"):
        PriceTable.load(tmp_path, tmp_path / "nowhere.toml")


def test_speeds_are_read_from_the_command_line():
    assert parse_speeds(["cpu=20", "gpu-t4=1.5e2"]) == {"cpu": 20.0, "gpu-t4": 150.0}


@pytest.mark.parametrize("text", ["cpu", "cpu=", "=3", "cpu=-1", "cpu=0", "cpu=nan", "cpu=inf"])
def test_a_speed_that_is_none_is_refused(text):
    with pytest.raises(BadOption, match="--speed"):
        parse_speeds([text])


def test_an_estimate_of_what_is_cached_is_nothing():
    expected = estimate([], cached=7, ahead_s=1000.0, workers=0, speed=10.0, price_per_worker_h=1.0)

    assert (expected.cached, expected.likely_s, expected.latest_s, expected.price) == (7, 0.0, 0.0, 0.0)


def test_without_workers_there_is_a_price_and_no_time():
    expected = estimate([36.0], cached=0, ahead_s=0.0, workers=0, speed=10.0, price_per_worker_h=1000.0)

    assert expected.likely_s is None
    assert expected.price == pytest.approx(1.0)


def test_without_the_price_of_a_worker_nothing_is_said_to_cost_nothing(capsys):
    expected = estimate([36.0], cached=0, ahead_s=0.0, workers=1, speed=10.0, price_per_worker_h=0.0)

    show_estimate(expected, [], {"this batch": 3.0, "owner me": 60.0}, as_json=False)

    said = capsys.readouterr().out
    assert expected.price is None
    assert "set PIANOFARM_WORKER_PRICE_PER_H" in said
    assert "budget of this batch: 0:03.0 of worker time left, NOT ENOUGH" in said
    assert "budget of owner me: 1:00.0 of worker time left, enough" in said


@given(
    ahead=st.lists(st.floats(0.1, 600), max_size=20),
    pieces=st.lists(st.floats(0.1, 600), min_size=1, max_size=20),
    workers=st.integers(1, 8),
    speed=st.floats(0.5, 100),
)
def test_workers_that_are_never_idle_end_by_the_latest_time(ahead, pieces, workers, speed):
    expected = estimate(pieces, cached=0, ahead_s=sum(ahead), workers=workers, speed=speed, price_per_worker_h=0.0)
    free_at = [0.0] * workers
    ends = []
    for length in [*ahead, *pieces]:
        end = heapq.heappop(free_at) + length / speed
        heapq.heappush(free_at, end)
        ends.append(end)

    assert max(ends[len(ahead) :]) <= expected.latest_s * (1 + 1e-9)
    assert expected.likely_s <= expected.latest_s * (1 + 1e-9)
