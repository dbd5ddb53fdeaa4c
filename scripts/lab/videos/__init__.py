"""Videos of the small video DiT, dense and sparse: the paper's Tables 1, 2, 4 and 5 in miniature, and what they leave out.

configurations  which policies are compared
metrics         a sparse video against the dense one, or the true one: PSNR and SSIM
perceptual      LPIPS, where its weights are
motion          what moves in a clip, and what flickers
visible         ColorVideoVDP: what a person would see of the difference, over space and time
vbench_scores   VBench, where its weights are
probing         attention-level recall, empty rows and output errors inside a sampling run
dense_path      what lies between attention and the video: a step's error, errors added up, the distance by step
feedback        what becomes of a small error in the middle of a run
contrast        how washed-out a sparse video is, and PSNR without that
eight_bits      attention and linear layers of 8-bit numbers, and the error by its sources: Table 2
quality         clips of every configuration, against the dense ones of the same prompts and seeds
speed           how long a video takes, dense and sparse, and where the time goes
pictures        clips side by side
lpips_weights   the file of weights that LPIPS wants
The command is __main__.
"""
