"""Geometry on the GPU: one pyrender primitive for all fragments, one per rock shape drawn in instances.

In: a `Solid` of `scene_tables`. Out: vertex arrays that `render/gl.py` draws; poses are not here but in a buffer texture keyed
by body, so a frame uploads one table and no vertices. pyrender's own Primitive supplies the life cycle in a scene.
"""

from __future__ import annotations

import ctypes

import numpy as np

from render.compat import pyrender_open

pyrender_open()
import pyrender  # noqa: E402
from OpenGL import GL  # noqa: E402

from render.scene_tables import Solid  # noqa: E402

UNSIGNED = 4  # bytes


class FragmentBatch(pyrender.Primitive):
    """Triangles whose body index comes per vertex, or per instance where `instanced`."""

    def __init__(self, solid: Solid, order: int, instanced: bool):
        super().__init__(positions=solid.vertex)
        self.solid = solid
        self.order = order  # of drawing; for instances also the rock shape
        self.instanced = instanced
        self.instance_count = 0
        self.normal_texture = 0
        self._instance_buffer = 0

    def _add_to_context(self) -> None:
        self._vaid = GL.glGenVertexArrays(1)
        GL.glBindVertexArray(self._vaid)
        self._buffers = list(GL.glGenBuffers(4))
        vertices, elements, normals, self._instance_buffer = self._buffers
        record = np.zeros(len(self.solid.vertex), [("position", "<f4", 3), ("body", "<u4")])
        record["position"], record["body"] = self.solid.vertex, np.maximum(self.solid.body, 0)
        GL.glBindBuffer(GL.GL_ARRAY_BUFFER, vertices)
        GL.glBufferData(GL.GL_ARRAY_BUFFER, record.nbytes, record.view(np.uint8), GL.GL_STATIC_DRAW)
        GL.glVertexAttribPointer(0, 3, GL.GL_FLOAT, False, record.itemsize, ctypes.c_void_p(0))
        GL.glEnableVertexAttribArray(0)
        if self.instanced:
            GL.glBindBuffer(GL.GL_ARRAY_BUFFER, self._instance_buffer)
            GL.glVertexAttribIPointer(1, 1, GL.GL_UNSIGNED_INT, UNSIGNED, ctypes.c_void_p(0))
            GL.glVertexAttribDivisor(1, 1)
        else:
            GL.glVertexAttribIPointer(1, 1, GL.GL_UNSIGNED_INT, record.itemsize, ctypes.c_void_p(12))
        GL.glEnableVertexAttribArray(1)
        index = np.ascontiguousarray(self.solid.face, np.uint32).ravel()
        GL.glBindBuffer(GL.GL_ELEMENT_ARRAY_BUFFER, elements)
        GL.glBufferData(GL.GL_ELEMENT_ARRAY_BUFFER, index.nbytes, index, GL.GL_STATIC_DRAW)
        GL.glBindVertexArray(0)
        self.normal_texture = buffer_texture(normals, self.solid.normal)

    def _remove_from_context(self) -> None:
        if self._vaid is not None:
            GL.glDeleteTextures([self.normal_texture])
        super()._remove_from_context()

    def set_instances(self, body: np.ndarray) -> None:
        """Draw one copy per body index (N)."""
        self.instance_count = len(body)
        data = np.ascontiguousarray(body, np.uint32)
        GL.glBindBuffer(GL.GL_ARRAY_BUFFER, self._instance_buffer)
        GL.glBufferData(GL.GL_ARRAY_BUFFER, max(data.nbytes, UNSIGNED), data if len(data) else None, GL.GL_STREAM_DRAW)

    def draw(self) -> None:
        """Issue the draw call with the program that is bound."""
        if self.instanced and not self.instance_count:
            return
        GL.glBindVertexArray(self._vaid)
        count = self.solid.face.size
        if self.instanced:
            GL.glDrawElementsInstanced(GL.GL_TRIANGLES, count, GL.GL_UNSIGNED_INT, ctypes.c_void_p(0), self.instance_count)
        else:
            GL.glDrawElements(GL.GL_TRIANGLES, count, GL.GL_UNSIGNED_INT, ctypes.c_void_p(0))
        GL.glBindVertexArray(0)


def buffer_texture(buffer: int, table: np.ndarray) -> int:
    """A texture of RGBA32F texels over a buffer filled with a float32 table."""
    buffer_fill(buffer, table)
    texture = GL.glGenTextures(1)
    GL.glBindTexture(GL.GL_TEXTURE_BUFFER, texture)
    GL.glTexBuffer(GL.GL_TEXTURE_BUFFER, GL.GL_RGBA32F, buffer)
    GL.glBindTexture(GL.GL_TEXTURE_BUFFER, 0)
    return int(texture)


def buffer_fill(buffer: int, table: np.ndarray) -> None:
    """Replace what a texture buffer holds."""
    data = np.ascontiguousarray(table, np.float32)
    GL.glBindBuffer(GL.GL_TEXTURE_BUFFER, buffer)
    GL.glBufferData(GL.GL_TEXTURE_BUFFER, data.nbytes, data, GL.GL_DYNAMIC_DRAW)
    GL.glBindBuffer(GL.GL_TEXTURE_BUFFER, 0)
