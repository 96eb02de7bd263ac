# pyright: basic, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportArgumentType=false
"""The one OpenGL pass behind all guides: pyrender's renderer with six targets at 2x2 samples, headless.

In: a scene of `FragmentBatch` primitives, pose and material tables, matrices. Out: `Samples`, float32 images of twice the
output size, row 0 at the top. pyrender supplies scene, mesh life cycle, EGL platform and program cache; its forward pass is
replaced, because it draws node by node into one colour target. One context per process, kept alive (deleting it would
terminate the EGL display); other resolutions get other framebuffers. The arrays of `Samples` are reused by the next frame.
"""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

import numpy as np

from render.compat import APT_LINE, pyrender_open
from shot.errors import MissingResource

pyrender = pyrender_open()

try:
    import OpenGL.contextdata
    import OpenGL.platform
    from OpenGL import GL
    from OpenGL.GL import shaders as gl_shaders
    from pyrender.shader_program import ShaderProgram, ShaderProgramCache
except ImportError as error:
    raise MissingResource(f"OpenGL does not load ({error}): {APT_LINE}") from error

from render.batch import FragmentBatch, buffer_fill, buffer_texture  # noqa: E402
from render.samples import SAMPLES, DustLight, FrameInput, Samples  # noqa: E402

SHADERS = Path(__file__).parent / "shaders"
TARGETS = (  # name, internal format, client format, client type, numpy type, channels
    ("direct", GL.GL_RGBA32F, GL.GL_RGBA, GL.GL_FLOAT, np.float32, 4),
    ("ambient", GL.GL_RGBA32F, GL.GL_RGBA, GL.GL_FLOAT, np.float32, 4),
    ("albedo", GL.GL_RGBA8, GL.GL_RGBA, GL.GL_UNSIGNED_BYTE, np.uint8, 4),
    ("normal", GL.GL_RGBA32F, GL.GL_RGBA, GL.GL_FLOAT, np.float32, 4),
    ("id", GL.GL_R32UI, GL.GL_RED_INTEGER, GL.GL_UNSIGNED_INT, np.uint32, 1),
    ("motion", GL.GL_RGBA32F, GL.GL_RGBA, GL.GL_FLOAT, np.float32, 4),
)


class GuideProgram(ShaderProgram):
    """A shader program with includes, linked without validation and with loud uniforms.

    Validation before sampler units are set refuses programs that mix sampler types; pyrender's set_uniform hides errors."""

    def _add_to_context(self) -> None:
        stages = [gl_shaders.compileShader(self._load(self.vertex_shader), GL.GL_VERTEX_SHADER),
                  gl_shaders.compileShader(self._load(self.fragment_shader), GL.GL_FRAGMENT_SHADER)]
        program = GL.glCreateProgram()
        for stage in stages:
            GL.glAttachShader(program, stage)
        GL.glLinkProgram(program)
        if not GL.glGetProgramiv(program, GL.GL_LINK_STATUS):
            raise RuntimeError(f"{self.vertex_shader}: {GL.glGetProgramInfoLog(program).decode()}")
        for stage in stages:
            GL.glDeleteShader(stage)
        self._program_id = program
        self._vao_id = GL.glGenVertexArrays(1)
        self._locations: dict[str, int] = {}

    def _load(self, shader_filename) -> str:
        text = super()._load(shader_filename)
        return re.sub(r"^#include (\S+)$", lambda m: (SHADERS / m.group(1)).read_text(), text, flags=re.MULTILINE)

    def set(self, name: str, value) -> None:
        """Set a uniform if the program uses it; the type follows from the array."""
        if name not in self._locations:
            self._locations[name] = GL.glGetUniformLocation(self._program_id, name)
        at = self._locations[name]
        if at < 0:
            return
        if isinstance(value, (int, np.integer)):
            GL.glUniform1i(at, int(value))
        elif isinstance(value, float):
            GL.glUniform1f(at, value)
        elif value.shape == (4, 4):
            GL.glUniformMatrix4fv(at, 1, True, np.ascontiguousarray(value, np.float32))
        elif value.shape == (3, 3):
            GL.glUniformMatrix3dv(at, 1, True, np.ascontiguousarray(value, np.float64))
        elif value.shape == (3,) and name == "eye":
            GL.glUniform3dv(at, 1, np.ascontiguousarray(value, np.float64))
        elif value.ndim == 2:
            GL.glUniform3fv(at, len(value), np.ascontiguousarray(value, np.float32))
        else:
            {2: GL.glUniform2fv, 3: GL.glUniform3fv}[len(value)](at, 1, np.ascontiguousarray(value, np.float32))


class GuideProgramCache(ShaderProgramCache):
    """pyrender's cache, with our programs and our folder."""

    def get_program(self, vertex_shader, fragment_shader, geometry_shader=None, defines=None) -> GuideProgram:
        key = (OpenGL.contextdata.getContext(), vertex_shader, fragment_shader)
        if key not in self._program_cache:
            program = GuideProgram(str(SHADERS / vertex_shader), str(SHADERS / fragment_shader), None, defines)
            program._add_to_context()
            self._program_cache[key] = program
        return self._program_cache[key]


class GuideRenderer(pyrender.Renderer):
    """Shadow pass and one pass into all targets."""

    def __init__(self, width: int, height: int):
        super().__init__(width, height)
        self._program_cache = GuideProgramCache()
        self._targets: list[int] = []
        self._target_depth = self._frame = self._shadow = self._shadow_texture = 0
        self._size = (0, 0)
        self._shadow_size = 0
        self._images: Samples | None = None
        self._pose_buffer, self._body_buffer, self._material_buffer = GL.glGenBuffers(3)
        self._pose_texture = buffer_texture(self._pose_buffer, np.zeros((9, 4)))
        self._body_texture = buffer_texture(self._body_buffer, np.zeros((2, 4)))
        self._material_texture = buffer_texture(self._material_buffer, np.zeros((2, 4)))
        self._dust_texture = volume_texture()
        self._empty = GL.glGenVertexArrays(1)
        self._shot_uniforms: dict = {}

    def open_shot(self, scene, width: int, height: int, shadow_size: int, materials: np.ndarray, uniforms: dict) -> None:
        """Set what stays for the whole shot: geometry, materials, sizes, light."""
        self._update_context(scene, 0)
        self._configure_targets(width, height)
        self._configure_shadow(shadow_size)
        buffer_fill(self._material_buffer, materials)
        self._shot_uniforms = uniforms

    def draw_shadow(self, scene, frame: FrameInput) -> None:
        """Upload a frame's tables and draw its shadow map. Raises MissingResource for more bodies than this OpenGL has room for."""
        texels, limit = len(frame.bodies) * 9, GL.glGetIntegerv(GL.GL_MAX_TEXTURE_BUFFER_SIZE)
        if texels > limit:
            raise MissingResource(f"{len(frame.bodies)} bodies need {texels} texels; this OpenGL offers {limit}: lower debris.limit")
        for batch in ordered_batches(scene):
            if batch.instanced:
                batch.set_instances(frame.instances[batch.order])
        buffer_fill(self._body_buffer, frame.bodies.reshape(-1, 4))
        buffer_fill(self._pose_buffer, frame.poses)
        self._shadow_pass(ordered_batches(scene), frame)

    def draw_guides(self, scene, frame: FrameInput, dust: DustLight | None) -> Samples:
        """Draw the frame that `draw_shadow` prepared into all targets and read it back."""
        if dust is not None:
            volume_fill(self._dust_texture, dust.transmittance)
        inside = (dust.lower - frame.uniforms["eye"], 1 / dust.extent) if dust is not None else (np.zeros(3), np.zeros(3))
        self._guide_pass(ordered_batches(scene), frame, {"dust_lower": inside[0], "dust_scale": inside[1]})
        return self._read()

    def read_shadow(self) -> np.ndarray:
        """(S, S) f32 shadow map of the last frame; row and column follow light_clip's y and x."""
        image = np.empty((self._shadow_size, self._shadow_size), np.float32)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, self._shadow)
        pixels_read(self._shadow_size, self._shadow_size, GL.GL_DEPTH_COMPONENT, GL.GL_FLOAT, image)
        return image

    def _shadow_pass(self, batches: list[FragmentBatch], frame: FrameInput) -> None:
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self._shadow)
        GL.glViewport(0, 0, self._shadow_size, self._shadow_size)
        GL.glEnable(GL.GL_DEPTH_TEST)
        GL.glDepthFunc(GL.GL_LESS)
        GL.glDepthMask(True)
        GL.glEnable(GL.GL_CULL_FACE)
        GL.glCullFace(GL.GL_BACK)
        GL.glFrontFace(GL.GL_CCW)
        GL.glEnable(GL.GL_DEPTH_CLAMP)
        GL.glClear(GL.GL_DEPTH_BUFFER_BIT)
        program = self._program("shadow")
        self._set_all(program, frame, {})
        for batch in batches:
            batch.draw()
        GL.glDisable(GL.GL_DEPTH_CLAMP)

    def _guide_pass(self, batches: list[FragmentBatch], frame: FrameInput, more: dict) -> None:
        width, height = self._size
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self._frame)
        GL.glViewport(0, 0, width, height)
        GL.glDisable(GL.GL_BLEND)
        GL.glEnable(GL.GL_DEPTH_TEST)
        GL.glDepthFunc(GL.GL_LESS)
        GL.glEnable(GL.GL_CULL_FACE)
        GL.glCullFace(GL.GL_BACK)
        GL.glFrontFace(GL.GL_CW)  # the projection is flipped so that row 0 is the top
        GL.glClear(GL.GL_DEPTH_BUFFER_BIT)
        program = self._program("solid")
        self._set_all(program, frame, more)
        for batch in batches:
            GL.glActiveTexture(GL.GL_TEXTURE3)
            GL.glBindTexture(GL.GL_TEXTURE_BUFFER, batch.normal_texture)
            batch.draw()
        GL.glDisable(GL.GL_CULL_FACE)
        GL.glBindVertexArray(self._empty)
        self._set_all(self._program("ground"), frame, more)
        GL.glDrawArrays(GL.GL_TRIANGLE_STRIP, 0, 4)
        GL.glDepthFunc(GL.GL_LEQUAL)
        self._set_all(self._program("sky"), frame, more)
        GL.glDrawArrays(GL.GL_TRIANGLES, 0, 3)
        GL.glBindVertexArray(0)

    def _program(self, name: str) -> GuideProgram:
        return self._program_cache.get_program(f"{name}.vert", f"{name}.frag")

    def _set_all(self, program: GuideProgram, frame: FrameInput, more: dict) -> None:
        program._bind()
        for name, value in (self._shot_uniforms | frame.uniforms | more | {"light_clip": frame.light_clip}).items():
            program.set(name, value)
        units = (("poses", GL.GL_TEXTURE_BUFFER, self._pose_texture), ("bodies", GL.GL_TEXTURE_BUFFER, self._body_texture),
                 ("materials", GL.GL_TEXTURE_BUFFER, self._material_texture), ("normals", GL.GL_TEXTURE_BUFFER, 0),
                 ("shadow_map", GL.GL_TEXTURE_2D, self._shadow_texture), ("dust_light", GL.GL_TEXTURE_3D, self._dust_texture))
        for unit, (name, target, texture) in enumerate(units):
            GL.glActiveTexture(GL.GL_TEXTURE0 + unit)
            GL.glBindTexture(target, 0 if name == "shadow_map" and "shadow" in program.vertex_shader else texture)
            program.set(name, unit)

    def _configure_targets(self, width: int, height: int) -> None:
        size = (SAMPLES * width, SAMPLES * height)
        if size == self._size:
            return
        limit = GL.glGetIntegerv(GL.GL_MAX_TEXTURE_SIZE)
        if max(size) > limit:
            raise MissingResource(f"{width} x {height} needs {size[0]} x {size[1]} samples; this OpenGL offers {limit} a side")
        if self._targets:
            GL.glDeleteTextures([*self._targets, self._target_depth])
            GL.glDeleteFramebuffers(1, [self._frame])
        self._frame = GL.glGenFramebuffers(1)
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self._frame)
        self._targets = [int(t) for t in GL.glGenTextures(len(TARGETS))]
        for slot, (texture, target) in enumerate(zip(self._targets, TARGETS, strict=True)):
            image_texture(texture, target[1], size, target[2], target[3])
            GL.glFramebufferTexture2D(GL.GL_FRAMEBUFFER, GL.GL_COLOR_ATTACHMENT0 + slot, GL.GL_TEXTURE_2D, texture, 0)
        self._target_depth = int(GL.glGenTextures(1))
        image_texture(self._target_depth, GL.GL_DEPTH_COMPONENT32F, size, GL.GL_DEPTH_COMPONENT, GL.GL_FLOAT)
        GL.glFramebufferTexture2D(GL.GL_FRAMEBUFFER, GL.GL_DEPTH_ATTACHMENT, GL.GL_TEXTURE_2D, self._target_depth, 0)
        GL.glDrawBuffers(len(TARGETS), [GL.GL_COLOR_ATTACHMENT0 + slot for slot in range(len(TARGETS))])
        framebuffer_check("guide targets")
        self._size = size
        self._images = Samples(*(np.empty((size[1], size[0], *([t[5]] if t[5] > 1 else [])), t[4]) for t in TARGETS))

    def _configure_shadow(self, size: int) -> None:
        if size == self._shadow_size:
            return
        limit = GL.glGetIntegerv(GL.GL_MAX_TEXTURE_SIZE)
        if size > limit:
            raise MissingResource(f"look.shadow_size = {size}; this OpenGL offers {limit}")
        if self._shadow_texture:
            GL.glDeleteTextures([self._shadow_texture])
            GL.glDeleteFramebuffers(1, [self._shadow])
        self._shadow = GL.glGenFramebuffers(1)
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self._shadow)
        self._shadow_texture = int(GL.glGenTextures(1))
        image_texture(self._shadow_texture, GL.GL_DEPTH_COMPONENT32F, (size, size), GL.GL_DEPTH_COMPONENT, GL.GL_FLOAT)
        GL.glBindTexture(GL.GL_TEXTURE_2D, self._shadow_texture)
        for name, value in ((GL.GL_TEXTURE_MIN_FILTER, GL.GL_LINEAR), (GL.GL_TEXTURE_MAG_FILTER, GL.GL_LINEAR),
                            (GL.GL_TEXTURE_WRAP_S, GL.GL_CLAMP_TO_BORDER), (GL.GL_TEXTURE_WRAP_T, GL.GL_CLAMP_TO_BORDER),
                            (GL.GL_TEXTURE_COMPARE_MODE, GL.GL_COMPARE_REF_TO_TEXTURE), (GL.GL_TEXTURE_COMPARE_FUNC, GL.GL_LEQUAL)):
            GL.glTexParameteri(GL.GL_TEXTURE_2D, name, value)
        GL.glTexParameterfv(GL.GL_TEXTURE_2D, GL.GL_TEXTURE_BORDER_COLOR, np.ones(4, np.float32))  # outside the map: lit
        GL.glFramebufferTexture2D(GL.GL_FRAMEBUFFER, GL.GL_DEPTH_ATTACHMENT, GL.GL_TEXTURE_2D, self._shadow_texture, 0)
        GL.glDrawBuffer(GL.GL_NONE)
        GL.glReadBuffer(GL.GL_NONE)
        framebuffer_check("shadow map")
        self._shadow_size = size

    def _read(self) -> Samples:
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, self._frame)
        assert self._images is not None
        for slot, target in enumerate(TARGETS):
            GL.glReadBuffer(GL.GL_COLOR_ATTACHMENT0 + slot)
            pixels_read(*self._size, target[2], target[3], getattr(self._images, target[0]))
        return self._images


class GuideOffscreen(pyrender.OffscreenRenderer):
    """pyrender's offscreen context around a GuideRenderer."""

    def _create(self) -> None:
        from pyrender.platforms import egl

        try:
            device = egl.get_device_by_index(int(os.environ.get("EGL_DEVICE_ID", "0")))
            self._platform = egl.EGLPlatform(self.viewport_width, self.viewport_height, device=device)
            self._platform.init_context()
            self._platform.make_current()
        except Exception as error:
            raise MissingResource(f"no EGL context ({type(error).__name__}: {error}): {APT_LINE}; or set EGL_DEVICE_ID") from error
        self._renderer = GuideRenderer(self.viewport_width, self.viewport_height)


def ordered_batches(scene) -> list[FragmentBatch]:
    """Batches of a scene in drawing order (pyrender keeps meshes in a set)."""
    return sorted((p for mesh in scene.meshes for p in mesh.primitives), key=lambda batch: batch.order)


_offscreen: GuideOffscreen | None = None


def renderer_open() -> GuideRenderer:
    """The renderer of this process, made current."""
    global _offscreen
    if _offscreen is None:
        _offscreen = GuideOffscreen(16, 16)
    _offscreen._platform.make_current()
    return _offscreen._renderer


def context_describe() -> str:
    """Vendor, renderer and version of the OpenGL in use: part of what decides a frame's bytes."""
    renderer_open()
    return " / ".join(GL.glGetString(name).decode() for name in (GL.GL_VENDOR, GL.GL_RENDERER, GL.GL_VERSION))


def image_texture(texture: int, internal: int, size: tuple[int, int], form: int, kind: int) -> None:
    """Allocate an unfiltered texture."""
    GL.glBindTexture(GL.GL_TEXTURE_2D, texture)
    GL.glTexImage2D(GL.GL_TEXTURE_2D, 0, internal, size[0], size[1], 0, form, kind, None)
    GL.glTexParameteri(GL.GL_TEXTURE_2D, GL.GL_TEXTURE_MIN_FILTER, GL.GL_NEAREST)
    GL.glTexParameteri(GL.GL_TEXTURE_2D, GL.GL_TEXTURE_MAG_FILTER, GL.GL_NEAREST)
    GL.glBindTexture(GL.GL_TEXTURE_2D, 0)


def volume_texture() -> int:
    """A trilinear 3D texture holding one."""
    texture = int(GL.glGenTextures(1))
    GL.glBindTexture(GL.GL_TEXTURE_3D, texture)
    for name, value in ((GL.GL_TEXTURE_MIN_FILTER, GL.GL_LINEAR), (GL.GL_TEXTURE_MAG_FILTER, GL.GL_LINEAR),
                        (GL.GL_TEXTURE_WRAP_S, GL.GL_CLAMP_TO_EDGE), (GL.GL_TEXTURE_WRAP_T, GL.GL_CLAMP_TO_EDGE),
                        (GL.GL_TEXTURE_WRAP_R, GL.GL_CLAMP_TO_EDGE)):
        GL.glTexParameteri(GL.GL_TEXTURE_3D, name, value)
    GL.glBindTexture(GL.GL_TEXTURE_3D, 0)
    volume_fill(texture, np.ones((1, 1, 1), np.float32))
    return texture


def volume_fill(texture: int, volume: np.ndarray) -> None:
    """Replace a 3D texture by a volume indexed [x, y, z]."""
    data = np.ascontiguousarray(volume.transpose(2, 1, 0), np.float32)
    GL.glBindTexture(GL.GL_TEXTURE_3D, texture)
    GL.glPixelStorei(GL.GL_UNPACK_ALIGNMENT, 1)
    GL.glTexImage3D(GL.GL_TEXTURE_3D, 0, GL.GL_R32F, *volume.shape, 0, GL.GL_RED, GL.GL_FLOAT, data)
    GL.glBindTexture(GL.GL_TEXTURE_3D, 0)


def framebuffer_check(name: str) -> None:
    """Raises MissingResource where the driver refuses a framebuffer."""
    status = GL.glCheckFramebufferStatus(GL.GL_FRAMEBUFFER)
    if status != GL.GL_FRAMEBUFFER_COMPLETE:
        raise MissingResource(f"this OpenGL refuses the {name} (status {int(status):#x}); a 4.1 core profile is needed")


def pixels_read(width: int, height: int, form: int, kind: int, into: np.ndarray) -> None:
    """glReadPixels without PyOpenGL's wrapper, which cannot take an output array."""
    GL.glPixelStorei(GL.GL_PACK_ALIGNMENT, 1)
    function = OpenGL.platform.PLATFORM.GL.glReadPixels
    function.argtypes = [ctypes.c_int] * 4 + [ctypes.c_uint] * 2 + [ctypes.c_void_p]
    function.restype = None
    function(0, 0, width, height, int(form), int(kind), into.ctypes.data)
