"""The two schedulers as the official Wan directories configure them."""

from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler


def make_scheduler(kind, shift):
    """`kind` is "unipc" or "euler"; `shift` moves the steps towards high noise."""
    if kind == "unipc":
        return UniPCMultistepScheduler(
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=shift,
            num_train_timesteps=1000,
        )
    return FlowMatchEulerDiscreteScheduler(shift=shift)


def kind_of(scheduler):
    return "unipc" if isinstance(scheduler, UniPCMultistepScheduler) else "euler"


def replaced(scheduler, kind):
    """`scheduler`, or the other kind with the same shift where `kind` asks for it.

    diffusers' own `from_config` would lose the shift: the two classes name it
    `flow_shift` and `shift`.
    """
    if kind is None or kind == kind_of(scheduler):
        return scheduler
    config = scheduler.config
    return make_scheduler(kind, config.shift if kind == "unipc" else config.flow_shift)
