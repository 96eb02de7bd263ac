#version 410
#include weathering.glsl
#include light.glsl

uniform samplerBuffer materials;
uniform mat4 clip_now;
uniform mat4 clip_before;
uniform mat4 clip_after;
uniform dmat3 ray;                           // (ndc x, ndc y, 1) to a direction of depth 1
uniform dvec3 eye;
uniform vec3 eye_before;                     // [m] this eye minus that of the previous frame
uniform vec3 eye_after;
uniform float pixel_angle;
uniform int ground_material;
uniform int ground_id;

void main() {
    // double: near the horizon the ray's height is a small difference of large terms
    dvec2 ndc = dvec2(gl_FragCoord.xy) / (2.0 * dvec2(half_size)) - 1.0;
    dvec3 direction = ray * dvec3(ndc, 1.0);
    double t = -eye.y / direction.y;
    if (t <= 0.0) discard;
    vec3 p = vec3(direction * t);
    float depth = float(t);
    vec3 n = vec3(0.0, 1.0, 0.0);
    float cosine = abs(p.y) * inversesqrt(dot(p, p));
    float footprint = depth * pixel_angle / max(sqrt(cosine), 0.05);
    vec4 base = texelFetch(materials, ground_material * 2);
    vec3 albedo = surface_albedo(int(base.w), base.xyz, base.xyz, 1.0, false, vec3(eye.x + p.x, 0.0, eye.z + p.z), n, footprint);
    surface_write(p, n, albedo, depth, false, uint(ground_id));
    out_motion = motion_of((clip_now * vec4(p, 1.0)).xyw, (clip_before * vec4(p + eye_before, 1.0)).xyw,
                           (clip_after * vec4(p + eye_after, 1.0)).xyw);
}
