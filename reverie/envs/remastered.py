"""A new look for a DeepMind Control task at every reset: textures, colours, lights and camera, never the physics.

In the spirit of "DMC Remastered" (Grigsby & Qi 2020, "Measuring visual generalization in continuous control from
pixels"), with its seven factors, but drawn by formulas: no picture files. A look is a function of its visual seed, and
each factor draws from its own generator, so that leaving one out does not change the others::

    look(seed) = { factor: draw(model, SeedSequence((seed, index of the factor))) }

Nothing that the simulation reads is written: rewards and states are those of the plain task, to the last bit.
Differs from the paper in: textures are formulas instead of photographs; the ranges are ours; the camera moves for
every task, and never so far that what it showed leaves the picture (see `reverie.envs.orbits`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import numpy as np

from reverie.envs import patterns
from reverie.envs.orbits import orbit_camera, tilt_light

FACTORS = ("background", "floor", "body", "target", "reflectance", "light", "camera")
"""What may vary. The order is part of every look: it numbers the factors' generators."""

MATERIALS = {
    "background": ("background",),
    "floor": ("grid",),
    "body": ("self", "effector", "decoration", "eye", "skin"),
    "target": ("target", "ball", "tennis_ball"),
}
"""Factor -> the suite's materials that belong to it. The background is the sky too."""

TEXELS = 128
"""Side of a texture or of a sky's face: 1 texel per pixel of a 64-pixel image with a field of view of 45 degrees."""
BODY_TEXTURE = "remastered_body"


class Visuals:
    """The look of one simulator, changed in place.

    physics: of a task that was loaded under `with_body_texture`. vary: names of `FACTORS`. camera: number of the one
    whose images are shown; the others stay. An episode: `restore`, the task's own reset, `draw`, and `upload` when a
    picture is wanted.
    """

    def __init__(self, physics: Any, vary: Sequence[str], camera: int) -> None:
        import mujoco

        self._mujoco = mujoco
        self._physics = physics
        self._vary = tuple(vary)
        self._camera_id = camera
        model = physics.model
        names = [model.mat(i).name for i in range(model.nmat)]
        self._materials = {
            factor: [names.index(name) for name in parts if name in names] for factor, parts in MATERIALS.items()
        }
        self._textures = {factor: self._textures_of(factor) for factor in MATERIALS if factor in self._vary}
        self._painted = [texture for textures in self._textures.values() for texture in textures]
        for texture in self._painted:
            self._shrink(texture)
        self._plain = {name: np.array(getattr(model, name)) for name in _CHANGED}
        self._plain_headlight = {name: np.array(getattr(model.vis.headlight, name)) for name in _HEADLIGHT}
        self._stale = False

    def restore(self) -> None:
        """Undo the last look but for its textures, as the task's reset expects: some tasks write parts of it."""
        model = self._physics.model
        for name, value in self._plain.items():
            getattr(model, name)[:] = value
        for name, value in self._plain_headlight.items():
            getattr(model.vis.headlight, name)[:] = value

    def draw(self, seed: int) -> None:
        """Give the task the look of `seed`, a non-negative integer."""
        draws = (
            self._background,
            self._floor,
            self._body,
            self._target,
            self._reflectance,
            self._light,
            self._camera,
        )
        for index, (factor, draw) in enumerate(zip(FACTORS, draws, strict=True)):
            if factor in self._vary:
                draw(np.random.default_rng((seed, index)))
        self._stale = bool(self._painted)
        # Where cameras and lights are is computed with the state; those of this state are still the old ones.
        self._mujoco.mj_camlight(self._physics.model.ptr, self._physics.data.ptr)

    def upload(self) -> None:
        """Hand new textures to the renderer, if there are any; makes its context at the first call."""
        if not self._stale:
            return
        contexts = self._physics.contexts
        with contexts.gl.make_current() as gl:
            for texture in self._painted:
                gl.call(self._mujoco.mjr_uploadTexture, self._physics.model.ptr, contexts.mujoco.ptr, texture)
        self._stale = False

    def _background(self, rng: np.random.Generator) -> None:
        self._paint("background", rng)

    def _floor(self, rng: np.random.Generator) -> None:
        # Not its scale (texrepeat): the renderer reads that once, so pictures would depend on the first look.
        self._paint("floor", rng)

    def _body(self, rng: np.random.Generator) -> None:
        """One texture for the whole body, tinted per material so that its parts can be told apart."""
        self._paint("body", rng)
        self._tint("body", rng, 0.4)

    def _target(self, rng: np.random.Generator) -> None:
        self._paint("target", rng)
        self._tint("target", rng, 0.2)

    def _reflectance(self, rng: np.random.Generator) -> None:
        """Gloss of every material; mirrors only where the plain task has one (drawn in ``published`` images)."""
        model = self._physics.model
        model.mat_specular[:] = rng.uniform(0.0, 1.0, model.nmat)
        model.mat_shininess[:] = rng.uniform(0.0, 1.0, model.nmat)
        mirror = rng.uniform(0.0, 0.6, model.nmat)
        model.mat_reflectance[:] = np.where(model.mat_reflectance > 0, mirror, 0.0)

    def _light(self, rng: np.random.Generator) -> None:
        """Colour, strength and place of every light, and of the light that comes from the camera."""
        model = self._physics.model
        for light in range(model.nlight):
            model.light_diffuse[light] = rng.uniform(0.4, 1.0) * _pale(rng, 0.5)
            model.light_specular[light] = rng.uniform(0.0, 0.5)
            tilt_light(model, light, rng)
        model.vis.headlight.ambient[:] = rng.uniform(0.2, 0.5)
        model.vis.headlight.diffuse[:] = rng.uniform(0.3, 0.9) * _pale(rng, 0.3)

    def _camera(self, rng: np.random.Generator) -> None:
        orbit_camera(self._physics.model, self._camera_id, rng)

    def _textures_of(self, factor: str) -> list[int]:
        model, role = self._physics.model, self._mujoco.mjtTextureRole.mjTEXROLE_RGB
        textures = {int(model.mat_texid[material, role]) for material in self._materials[factor]} - {-1}
        if factor == "background":
            textures |= {i for i in range(model.ntex) if model.tex_type[i] == self._mujoco.mjtTexture.mjTEXTURE_SKYBOX}
        return sorted(textures)

    def _shrink(self, texture: int) -> None:
        """Use only the first part of a large texture's memory: the 12 MB of the sky are slow to draw and to upload."""
        model = self._physics.model
        faces = int(model.tex_height[texture]) // int(model.tex_width[texture])
        model.tex_width[texture] = min(TEXELS, int(model.tex_width[texture]))
        model.tex_height[texture] = faces * model.tex_width[texture]

    def _paint(self, factor: str, rng: np.random.Generator) -> None:
        model = self._physics.model
        for texture in self._textures[factor]:
            size, faces = int(model.tex_width[texture]), int(model.tex_height[texture] // model.tex_width[texture])
            texels = (patterns.tile if faces == 1 else patterns.cube)(rng, size).reshape(-1)
            model.tex_data[model.tex_adr[texture] :][: texels.size] = texels

    def _tint(self, factor: str, rng: np.random.Generator, darkest: float) -> None:
        """Colours of a factor's materials, each channel in [darkest, 1]; how far one sees through them stays."""
        rgba = self._physics.model.mat_rgba
        for material in self._materials[factor]:
            rgba[material, :3] = rng.uniform(darkest, 1.0, 3)


_CHANGED = (
    *("mat_rgba", "mat_specular", "mat_shininess", "mat_reflectance"),
    *("light_diffuse", "light_specular", "light_pos", "light_pos0", "light_poscom0", "light_dir", "light_dir0"),
    *("cam_pos", "cam_pos0", "cam_poscom0", "cam_quat", "cam_mat0", "cam_fovy"),
)
"""Fields of a model that looks write, besides the textures' data."""
_HEADLIGHT = ("ambient", "diffuse")


@contextmanager
def with_body_texture() -> Iterator[None]:
    """While this is open, the suite's models get a texture for the body: they have none. It is white, as if absent."""
    from dm_control.suite import common

    file = "./common/materials.xml"
    plain = common.ASSETS[file]
    root = ElementTree.fromstring(plain)
    asset = root.find("asset")
    if asset is None:
        raise RuntimeError(f"the control suite's {file} has no <asset>; this needs dm-control 1.0.28")
    size = TEXELS // 4
    texture = {"name": BODY_TEXTURE, "type": "cube", "builtin": "flat", "rgb1": "1 1 1", "rgb2": "1 1 1"}
    ElementTree.SubElement(asset, "texture", {**texture, "width": str(size), "height": str(6 * size)})
    for material in asset.iter("material"):
        if material.get("name") in MATERIALS["body"]:
            material.set("texture", BODY_TEXTURE)
    common.ASSETS[file] = ElementTree.tostring(root)
    try:
        yield
    finally:
        common.ASSETS[file] = plain


def _pale(rng: np.random.Generator, depth: float) -> np.ndarray:
    """A colour [3] whose largest channel is 1 and whose others are at least 1 - depth."""
    colour = 1.0 - rng.uniform(0.0, depth, 3)
    return colour / colour.max()
