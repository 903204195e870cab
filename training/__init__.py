"""Training of the small InstructPix2Pix that ships with the engine.

Read in this order: vocabulary (what can be said), scenes, tracing and shading
(rendered pairs), photos and filters (photographs and whole-picture targets),
dataset (pairs and cached latents), vae, unet, export, evaluate, sheets.
`python -m training --help` lists the commands.
"""
