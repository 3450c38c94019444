"""Two trainers over shared parameters, neither of which has a metric; numbers from a seed."""
from __future__ import print_function
import cntk as C
import numpy as np
from cntk.initializer import xavier

C.cntk_py.set_fixed_random_seed(1)
draw = np.random.RandomState(1)


def generator(z):
    with C.layers.default_options(init=xavier()):
        return C.layers.Dense(36, activation=C.tanh)(C.layers.Dense(8, activation=C.relu)(z))


def discriminator(x):
    with C.layers.default_options(init=xavier()):
        return C.layers.Dense(1, activation=C.sigmoid)(C.layers.Dense(8, activation=C.relu)(x))


Z, X = C.input_variable(5, dynamic_axes=[C.Axis.default_batch_axis()]), C.input_variable(36)
scaled = 2 * (X / 255.0) - 1.0
fake = generator(Z)
real = discriminator(scaled)
of_fake = real.clone(method="share", substitutions={scaled.output: fake.output})
G_loss = 1.0 - C.log(of_fake)
D_loss = -(C.log(real) + C.log(1.0 - of_fake))
momentum = C.momentum_schedule_per_sample(0.998)
G = C.Trainer(fake, (G_loss, None), C.fsadagrad(parameters=fake.parameters, lr=C.learning_parameter_schedule_per_sample(0.0005), momentum=momentum), C.logging.ProgressPrinter(2))
D = C.Trainer(real, (D_loss, None), C.fsadagrad(parameters=real.parameters, lr=C.learning_parameter_schedule_per_sample(0.0005), momentum=momentum), C.logging.ProgressPrinter(4))
for step in range(6):
    for _ in range(2):
        D.train_minibatch({X: draw.randint(0, 256, (16, 36)), Z: draw.uniform(-1, 1, (16, 5))})
    G.train_minibatch({Z: draw.uniform(-1, 1, (16, 5)).astype(np.float32)})
for trainer in (G, D):
    trainer.summarize_training_progress()
print("Training loss of the generator is: {0:.4f}".format(G.previous_minibatch_loss_average))
print("%.6f" % np.abs(fake.eval({Z: np.ones((2, 5))})).mean())
