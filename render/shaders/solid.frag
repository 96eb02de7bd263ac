#version 410
#include weathering.glsl
#include light.glsl

uniform samplerBuffer poses;
uniform samplerBuffer bodies;                // 2 texels a body: (rest position, tone), (material, element seed, 0, 0)
uniform samplerBuffer materials;             // 2 texels a material: (outer albedo, surface), (inner albedo, 0)
uniform samplerBuffer normals;               // 1 texel a triangle: (local normal, fracture)
uniform mat4 clip_now;
uniform vec3 axis;                           // viewing direction
uniform float pixel_angle;                   // size of a sample at depth 1
uniform int fragment_count;

in vec3 at_world;
in vec3 at_local;
in vec3 at_before;
in vec3 at_after;
flat in uint at_body;

void main() {
    int body = int(at_body);
    vec4 face = texelFetch(normals, gl_PrimitiveID);
    vec3 n = vec3(dot(texelFetch(poses, body * 9).xyz, face.xyz), dot(texelFetch(poses, body * 9 + 1).xyz, face.xyz),
                  dot(texelFetch(poses, body * 9 + 2).xyz, face.xyz));
    float scale = length(n);                 // 1 for fragments, the radius of a loose piece
    n /= scale;
    vec4 rest = texelFetch(bodies, body * 2);
    int material = int(texelFetch(bodies, body * 2 + 1).x);
    vec4 outer = texelFetch(materials, material * 2);
    vec4 inner = texelFetch(materials, material * 2 + 1);
    float depth = dot(axis, at_world);
    float cosine = abs(dot(n, at_world)) * inversesqrt(dot(at_world, at_world));
    float footprint = depth * pixel_angle / max(sqrt(cosine), 0.2);
    // a loose piece has no rest place: its pattern is its own, away from every other's
    vec3 p = body < fragment_count ? at_local + rest.xyz : at_local * scale + vec3(float(body % 997) * 7.0, float(body % 89) * 5.0, 0.0);
    vec3 albedo = surface_albedo(int(outer.w), outer.xyz, inner.xyz, rest.w, face.w > 0.5, p, face.xyz, footprint);
    surface_write(at_world, n, albedo, depth, face.w > 0.5, at_body + 1u);
    out_motion = motion_of((clip_now * vec4(at_world, 1.0)).xyw, at_before, at_after);
}
