#version 410
// Depth of the bodies as the sun sees them.
layout(location = 0) in vec3 position;
layout(location = 1) in uint body;

uniform samplerBuffer poses;
uniform mat4 light_clip;

void main() {
    int base = int(body) * 9;
    vec4 p = vec4(position, 1.0);
    vec3 world = vec3(dot(texelFetch(poses, base), p), dot(texelFetch(poses, base + 1), p), dot(texelFetch(poses, base + 2), p));
    vec4 clip = light_clip * vec4(world, 1.0);
    gl_Position = vec4(clip.xyz * 2.0 - 1.0, 1.0);
}
