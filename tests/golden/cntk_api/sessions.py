"""Training sessions, and what learners and trainers say of how far they are: each answered on a line of its own.

Of a refusal the class of the exception stands alone.
"""
import contextlib, io, os, re, shutil, warnings; warnings.simplefilter('ignore')
import numpy as np
import cntk as C
from cntk.train.training_session import DataUnit, TrainingSession
draw = np.random.RandomState(0)
X = draw.rand(10, 3).astype(np.float32); Y = np.eye(2, dtype=np.float32)[draw.randint(0, 2, 10)]
with open('tmp/d.ctf', 'w') as f:
    for a, b in zip(X, Y): f.write('|x %f %f %f |y %d %d\n' % (tuple(a) + tuple(b)))
def show(question, ask):
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed): answer = ask()
    except Exception as error: answer = '!! ' + type(error).__name__
    lines = re.sub(r'\d+\.\d+s \( *[\d.]+ samples/s\)', 'T', printed.getvalue()).strip().split('\n')
    print('%s: %s' % (question, ' / '.join([str(answer)] + lines)))
def source(**limits):
    streams = C.io.StreamDefs(x=C.io.StreamDef('x', 3), y=C.io.StreamDef('y', 2))
    return C.io.MinibatchSource(C.io.CTFDeserializer('tmp/d.ctf', streams), randomize=False, **limits)
class Writer(C.cntk_py.ProgressWriter):
    def __init__(self): super(Writer, self).__init__(1, 0, 1, 0, 1, 0); self.__disown__()
    def on_write_training_update(self, samples, updates, aggregate_loss, aggregate_metric): print('train', samples)
    def on_write_test_update(self, samples, updates, aggregate_metric): print('test', samples)
    def on_write_training_summary(self, samples, updates, summaries, aggregate_loss, aggregate_metric, elapsed_milliseconds): print('trained', samples, updates, summaries, '%.2f' % aggregate_loss)
    def on_write_test_summary(self, samples, updates, summaries, aggregate_metric, elapsed_milliseconds): print('tested', samples, updates, summaries, aggregate_metric)
    def write(self, key, value): print(key, value)
def network():
    C.cntk_py.set_fixed_random_seed(1)
    x, y = C.input_variable(3, name='x'), C.input_variable(2, name='y')
    z = C.layers.Dense(2)(x)
    return x, y, z, C.cross_entropy_with_softmax(z, y), C.classification_error(z, y)
def trainer(rate=C.learning_parameter_schedule(0.1, 4)):
    x, y, z, loss, metric = network()
    return x, y, C.Trainer(z, (loss, metric), [C.sgd(z.parameters, rate)], [Writer()])
def go(size=4, limit=20, rate=C.learning_parameter_schedule(0.1, 4), validation=None, test=None, **options):
    x, y, t = trainer(rate)
    s = source(max_samples=limit)
    configs = {'cv_config': validation() if validation else None, 'test_config': test() if test else None}
    C.training_session(trainer=t, mb_source=s, mb_size=size, model_inputs_to_streams={x: s.streams.x, y: s.streams.y}, **dict(configs, **options)).train()
    print(t.total_number_of_samples_seen, t.previous_minibatch_sample_count)
def called(index, error, samples, minibatches): print('called', index, samples, minibatches); return True
def validates(*arguments, **options): return lambda: C.CrossValidationConfig(*arguments, **options)
show('plain', lambda: go())
for frequency in (8, 10, 3, 0, -3, 'a', 8.0, (2, DataUnit.minibatch), (1, DataUnit.sweep), (8, DataUnit.sample), (0, DataUnit.sample), (1, 2, 3), (8, 'a'), [8, 1], C.io.FULL_DATA_SWEEP):
    show('progress %r' % (frequency,), lambda: go(progress_frequency=frequency))
for size in (3, 100, None, 'a', 2.5, C.minibatch_size_schedule([2, 4], epoch_size=6), C.learning_parameter_schedule([2, 4], epoch_size=6)):
    show('size %s' % (size if isinstance(size, (int, float, str)) else type(size).__name__ == 'NoneType'), lambda: go(size))
for samples in (7, 0, -3, 8.0, 'a'): show('samples %r' % samples, lambda: go(max_samples=samples))
for rate in (0.0, C.learning_parameter_schedule([0.1, 0.0], epoch_size=8)): show('rate', lambda: go(rate=rate))
show('validates', lambda: go(validation=validates(source(max_sweeps=1), 8, 4, called)))
show('validates some', lambda: go(validation=validates(source(), 8, 4, called, 6)))
show('stops', lambda: go(validation=validates(frequency=6, callback=lambda i, e, s, m: called(i, e, s, m) and False)))
show('stops, with tests', lambda: go(validation=validates(source(max_sweeps=1), 8, 32, lambda i, e, s, m: i < 1), test=lambda: C.TestConfig(source(max_sweeps=1))))
show('returns nothing', lambda: go(validation=validates(source(max_sweeps=1), 8, 32, lambda i, e, s, m: None)))
show('never', lambda: go(validation=validates(frequency=0, callback=called)))
for frequency in ('x', (1, 2, 3), 8.0): show('validation %r' % (frequency,), lambda: validates(frequency=frequency, callback=called)())
show('tests nothing', lambda: go(test=lambda: C.TestConfig(None)))
show('tests', lambda: go(test=lambda: C.TestConfig(source(max_sweeps=1), minibatch_size=4)))
def saves(name, **options):
    shutil.rmtree('tmp/' + name, ignore_errors=True); os.makedirs('tmp/' + name)
    go(checkpoint_config=C.CheckpointConfig('tmp/' + name + '/m', **options)); return sorted(os.listdir('tmp/' + name))
for frequency in (None, 8, 0, (2, DataUnit.minibatch)): show('saves %r' % (frequency,), lambda: saves('a', frequency=frequency, preserve_all=True))
for arguments in (('',), ('a', 'x'), ('a', (3, 4)), ('a', -5)): show('checkpoint %r' % (arguments,), lambda: C.CheckpointConfig(*arguments))
for arguments in ((), (None, None, None)): show('arguments %d' % len(arguments), lambda: C.training_session(*arguments))
class Own(TrainingSession):
    def on_cross_validation_end(self, index, average_error, num_samples, num_minibatches): print('validated', index, num_samples); return index < 1
    def on_checkpoint_end(self, index): print('saved', index)
    def on_minibatch_end(self): print('minibatch', self.get_minibatch_size()); return True
def own():
    x, y, t = trainer(); s = source(max_samples=20)
    Own(t, s, C.minibatch_size_schedule(4), {x: s.streams.x, y: s.streams.y}, C.io.INFINITELY_REPEAT, C.io.INFINITELY_REPEAT, C.CheckpointConfig('tmp/own', 4), C.CrossValidationConfig(source(max_sweeps=1), 4), C.TestConfig(None)).train()
show('own', own)
def again():
    x, y, t = trainer(); t.train_minibatch({x: X[:4], y: Y[:4]})
    learner = t.parameter_learners[0]
    print(learner.total_number_of_samples_seen(), learner.total_number_of_minibatches_seen(), learner.total_number_of_sweeps_seen())
    other = C.Trainer(t.model, (t.loss_function, t.evaluation_function), learner, [Writer()])
    print(other.total_number_of_samples_seen)
    s = C.io.MinibatchSourceFromData(dict(x=X, y=Y), max_samples=20)
    C.training_session(other, s, 2, {x: s.streams.x, y: s.streams.y}, 12, 4).train()
    print(t.total_number_of_samples_seen)
    C.training_session(other, s, 2, {x: s.streams.x, y: s.streams.y}, 12, 4).train()
    found = C.combine([t.loss_function, t.evaluation_function]).train((X, Y), parameter_learners=[learner], max_epochs=1)
    print([summary.samples for summary in found.epoch_summaries])
show('again', again)
def distributed():
    x, y, z, loss, metric = network()
    learner = C.data_parallel_distributed_learner(C.sgd(z.parameters, 0.1))
    C.Trainer(z, (loss, metric), learner).train_minibatch({x: X, y: Y}); return learner.total_number_of_samples_seen
show('distributed', distributed)
for criterion in (None, (None, 1), ()): show('criterion %r' % (criterion,), lambda: C.Trainer(C.input_variable(2), criterion, []))
show('evaluator of nothing', lambda: C.Evaluator(None))
x = C.input_variable((3, 8, 8))
show('window', lambda: C.layers.Convolution((1, 9), 4, pad=True)(x))
show('pool', lambda: C.layers.MaxPooling((9, 9), pad=True)(x))
show('dilated', lambda: C.layers.Convolution((3, 3), 4, dilation=3, pad=True)(x).shape)
show('transposed', lambda: C.layers.ConvolutionTranspose((9, 9), 4)(x).shape)
def unit_gain(value):
    before = C.default_unit_gain_value(); C.learners.set_default_unit_gain_value(value)
    x, y, z, loss, metric = network()
    t = C.Trainer(z, (loss, metric), C.momentum_sgd(z.parameters, 0.1, C.momentum_schedule(0.9)))
    for _ in range(3): t.train_minibatch({x: X, y: Y})
    C.learners.set_default_unit_gain_value(before); return '%.4f' % t.previous_minibatch_loss_average
for value in (True, False): show('unit gain %r' % value, lambda: unit_gain(value))
show('by keyword', lambda: [f([1, 0], [1, 1]).eval().tolist() for f in (lambda a, b: C.element_and(x=a, y=b), lambda a, b: C.element_or(x=a, y=b), lambda a, b: C.element_xor(x=a, y=b))])
show('squeeze', lambda: C.squeeze(x=np.zeros((1, 3), 'f'), axes=0).shape)
show('truncated', lambda: round(float(np.abs(C.parameter(300, init=C.initializer.truncated_normal(stdev=0.1, seed=1)).value).max()), 1))
show('array', lambda: C.NDArrayView.from_dense(np_array=X).shape)
show('seed', lambda: C.dropout(x, 0.5, 2 ** 64 - 3).root_function.attributes['rngSeed'] < 1000)
