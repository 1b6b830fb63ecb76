"""Noise and tapes: who draws what from which generator, and that nobody gets numbers that were not made for it."""

import pytest
import torch

from reverie.agents.noise import Noise, Tape


def test_numbers_are_uniform_and_follow_from_the_seed() -> None:
    noise = Noise(3)
    u = noise.uniform(200, 100)
    assert (u.dtype, u.shape) == (torch.float32, (200, 100))
    assert 0.0 <= float(u.min()) < float(u.max()) < 1.0
    assert torch.histc(u, 4, 0.0, 1.0).div(u.numel()).tolist() == pytest.approx([0.25] * 4, abs=0.02)
    assert torch.equal(Noise(3).uniform(200, 100), u)
    assert not torch.equal(noise.uniform(200, 100), u)
    assert not torch.equal(Noise(4).uniform(200, 100), u)


def test_torchs_own_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    Noise(3).uniform(7)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_goes_on_where_its_state_was_taken() -> None:
    noise = Noise(3)
    noise.uniform(5)
    state = noise.state()
    ahead = noise.uniform(5)
    other = Noise(99)
    other.restore(state)
    assert torch.equal(other.uniform(5), ahead)
    assert (state.dtype, state.device.type) == (torch.uint8, "cpu")


def test_numbers_of_a_host_generator_do_not_depend_on_the_device() -> None:
    """Tensors on the device meta hold nothing, so that what was drawn is told by the state that is left."""
    here, there = Noise(3), Noise(3, torch.device("meta"), host=True)
    here.uniform(4, 6)
    assert there.uniform(4, 6).device.type == "meta"
    assert there.generator.device.type == "cpu"
    assert torch.equal(here.state(), there.state())


def test_a_tape_gives_out_its_numbers_for_their_shape_alone() -> None:
    u = torch.rand(4, 3, 2)
    tape = Tape(u)
    assert torch.equal(tape.uniform(4, 3, 2), u)
    assert torch.equal(tape.uniform(4, 3, 2), u)  # as often as it is asked
    for shape in ((4, 3), (4, 3, 1), (3, 4, 2), (4, 3, 2, 1), (24,)):
        with pytest.raises(ValueError, match=r"was asked for, this tape holds \(4, 3, 2\)"):
            tape.uniform(*shape)


def test_rows_of_a_tape_are_tapes() -> None:
    tape = Noise(3).tape(4, 3, 2)
    assert torch.equal(tape.u, Noise(3).uniform(4, 3, 2))
    assert torch.equal(tape[2].uniform(3, 2), tape.u[2])
    assert torch.equal(tape[1:3].uniform(2, 3, 2), tape.u[1:3])
    assert torch.equal(tape[1:3][0].uniform(3, 2), tape.u[1])


def test_a_tape_has_no_state() -> None:
    with pytest.raises(TypeError, match="has no generator"):
        Tape(torch.rand(2)).state()
    with pytest.raises(TypeError, match="has no generator"):
        Tape(torch.rand(2)).restore(Noise(0).state())
