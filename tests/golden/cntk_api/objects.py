"""Functions, variables, values, trainers: small questions, each answered on a line of its own.

Numbers have three digits, numbers in uids are left out, and of a refusal the class of the exception stands alone.
"""
import ast,contextlib,io,os,re,sys,tempfile,warnings; warnings.simplefilter('ignore')
import numpy as np
import cntk as C
def num(x):
    x=float(x)
    return 'nan' if x!=x else '%.3g'%x if abs(x)>1e-7 or x==0 else '~0'
def canon(v,d=0):
    if d>4: return '...'
    n=type(v).__name__
    if n in('Input','Output','Placeholder'): n='Variable'
    if v is None or isinstance(v,(bool,str,bytes,type)):
        if isinstance(v,type): return 'type:'+v.__name__
        return mask(repr(v)) if not isinstance(v,bytes) else 'bytes'
    if isinstance(v,(int,np.integer)) and not isinstance(v,np.bool_): return repr(int(v))
    if isinstance(v,(float,np.floating)): return num(v)
    if isinstance(v,np.ndarray):
        if v.size>60: return 'arr%s%s sum %s'%(v.dtype,v.shape,num(np.sum(v.astype('f8'))))
        return 'arr%s%s[%s]'%(v.dtype,v.shape,','.join(num(a) if v.dtype!=object else canon(a,d+1) for a in v.ravel()))
    if hasattr(v,'tocsr'):
        return 'csr'+canon(np.asarray(v.todense()),d+1)
    if isinstance(v,dict) and n in('dict','Record','StreamDefs','OrderedDict','defaultdict'):
        return '%s{%s}'%(n,', '.join(sorted('%s: %s'%(canon(k,d+1),canon(x,d+1)) for k,x in v.items())))
    if isinstance(v,(list,tuple)) and n in('list','tuple'): return '%s(%s)'%(n,', '.join(canon(x,d+1) for x in v))
    if isinstance(v,(set,frozenset)): return 'set(%s)'%', '.join(sorted(canon(x,d+1) for x in v))
    if n in('generator','map','zip','dict_keys','dict_values','dict_items','dict_keyiterator'): return n+canon(list(v),d+1)
    try: return n+'|'+mask(str(v))
    except Exception as e: return n+'|str!!'+type(e).__name__
def mask(s):
    s=re.sub(r'0x[0-9a-f]+','0xX',s)
    s=re.sub(r'\b([A-Za-z_]+?)\d+(_Output_\d+)?\b',lambda m: m.group(1)+'#'+(m.group(2) or '') if m.group(1) in KINDS or m.group(2) else m.group(0),s)
    s=s.replace(TMP,'TMP')
    return s
KINDS=set('Input Parameter Constant Placeholder CompositeFunction Block Combine Times Plus Minus ElementTimes Sigmoid ReLU Tanh Exp Log Convolution Pooling Dropout Slice Splice Reshape ReduceElements CrossEntropyWithSoftmax ClassificationError Softmax BatchNormalization Alias NoOp StopGradient Clip Select Negate Reciprocal Sqrt Floor Abs TransposeAxes Dense Hardmax Pass'.split())
TMP=tempfile.mkdtemp(dir='tmp')
def same(s):
    s=s.replace('convolve.cntk','cntk')
    s=re.sub(r"<(cntk[\w.]*|builtins\.\w+|W)(; proxy of <Swig Object of type '[^']*' at 0xX> >| object at 0xX>)",'<obj>',s)
    s=re.sub(r'<bound method ([\w.]+) of .*>',r'<bound method>',s)
    s=re.sub(r"'(Input|Output|Placeholder)'","'Variable'",s)
    return re.sub(r'\b(Parameter|Constant)\|(Parameter|Constant)',r'Variable|\2',s)
def mk(): 
    x=C.input_variable((2,3),name='x')
    return x
def small():
    C.cntk_py.set_fixed_random_seed(1)
    x=C.input_variable(3,name='x'); y=C.input_variable(2,name='y')
    z=C.layers.Dense(2,name='fc')(x)
    ce=C.cross_entropy_with_softmax(z,y,name='ce'); pe=C.classification_error(z,y,name='pe')
    return x,y,z,ce,pe
X=np.arange(12,dtype=np.float32).reshape(4,3)/10
Y=np.eye(2,dtype=np.float32)[[0,1,1,0]]
def ask(block,text):
    names=dict(globals()); C.cntk_py.set_fixed_random_seed(1)
    for number,statement in enumerate(ast.parse(text).body):
        printed=io.StringIO(); answer=''
        try:
            with contextlib.redirect_stdout(printed):
                if isinstance(statement,ast.Expr): answer=canon(eval(compile(ast.Expression(statement.value),'q','eval'),names))
                else: exec(compile(ast.Module([statement],[]) if sys.version_info>(3,8) else ast.Module([statement]),'q','exec'),names)
        except Exception as error: answer='!! '+type(error).__name__
        answer+=' PRINTED '+mask(printed.getvalue()) if printed.getvalue() else ''
        if answer: print('%s %d: %s'%(block,number,same(answer).replace(chr(10),chr(92)+'n')))
ask('order',r'''
x=C.input_variable((3,),name='x'); w=C.parameter((3,2),name='w'); y=C.input_variable(2,name='y')
t=C.times(x,w)
t.inputs
t.root_function.inputs
t.arguments
t.root_function.arguments
(t+y).inputs
C.times(x,C.times(w,C.parameter((2,4),name='v'))).inputs
C.times_transpose(x,C.parameter((2,3),name='v')).root_function.inputs
C.times(C.input_variable((2,3),name='a'),C.input_variable((3,4),name='b')).arguments
C.times(C.input_variable((2,3),name='a'),C.input_variable((3,4),name='b')).root_function
C.times(C.input_variable((2,3),name='a'),C.input_variable((3,4),name='b')).signature
C.minus(x,C.input_variable(3,name='c')).inputs
C.convolution(C.parameter((2,1,3,3),name='k'),C.input_variable((1,4,4),name='im')).inputs
C.cross_entropy_with_softmax(t,y).inputs
C.cross_entropy_with_softmax(t,y).root_function.block_root.inputs
C.logging.graph.depth_first_search(t,lambda v:True)
t.root_function
f=C.times(C.placeholder(name='p'),C.placeholder(name='q'))
f.placeholders
f.arguments
f.signature
f
C.times(x,w,name='n').parameters
''')
ask('basic',r'''
x,y,z,ce,pe=small()
z
str(z)
repr(z)
z.root_function
repr(z.root_function)
z.name
z.op_name
z.root_function.op_name
z.is_primitive
z.is_block
z.is_composite
z.root_function.is_primitive
z.root_function.is_block
z.root_function.is_composite
z.block_root
z.root_function.block_root
z.root_function.block_arguments_mapping
z.block_arguments_mapping
z.inputs
z.root_function.inputs
z.arguments
z.root_function.arguments
z.outputs
z.output
z.parameters
z.constants
z.placeholders
z.signature
z.attributes
z.root_function.attributes
z.shape
z.dtype
z.dynamic_axes
z.uid
z.root_function.uid
z.output.uid
z.output.owner
z.output.owner.is_primitive
z.type
z.as_string()
z.is_sparse
z.needs_gradient
z.is_parameter
z.is_output
z.is_input
z.is_constant
z.is_placeholder
hash(z)==hash(z)
z==z
z!=z
z==z.root_function
len(z)
bool(z)
iter(z)
''')
ask('attrs',r'''
x,y,z,ce,pe=small()
z.W
z.b
z.fc
z.fc.W
z.fc.b.value
z.nope
z.W.name
z.W.shape
z.W.value
ce.fc
ce.ce
ce.y
ce.x
ce.nothing
z.x
z._foo
hasattr(z,'W')
hasattr(z,'foo')
getattr(z,'foo',3)
z.foo=3
z.foo
z.name='other'
''')
ask('names',r'''
x=C.input_variable(3,name='x')
z=C.relu(x,name='r')
z.name
z.output.name
z.root_function.name
z2=C.relu(x)
z2.name
z2.name='later'
z2.name
z2.output.name
z2.name='again'
z2.set_name('q')
x.name
x.name='nn'
x.name
x.set_name('w')
''')
ask('primattr',r'''
x=C.input_variable((3,4),name='x')
C.reduce_sum(x,axis=0).root_function.attributes
C.reduce_mean(x,axis=(0,1)).root_function.attributes
C.slice(x,0,1,2).root_function.attributes
C.slice(x,[0,1],[0,1],[1,2]).root_function.attributes
C.dropout(x,0.3).root_function.attributes
C.dropout(x,0.3,seed=3).root_function.attributes
C.reshape(x,(4,3)).root_function.attributes
C.transpose(x,(1,0)).root_function.attributes
C.swapaxes(x,0,1).root_function.attributes
C.splice(x,x,axis=0).root_function.attributes
C.clip(x,0,1).root_function.attributes
C.elu(x).root_function.attributes
C.elu(x,2).root_function.attributes
C.leaky_relu(x).root_function.attributes
C.times(x,C.parameter((4,5))).root_function.attributes
C.times(x,C.parameter((3,4,5)),output_rank=1).root_function.attributes
C.times_transpose(x,C.parameter((5,4))).root_function.attributes
C.top_k(x,2).root_function.attributes
C.softmax(x).root_function.attributes
C.softmax(x).root_function
C.softmax(x,axis=0).root_function.attributes
C.softmax(x,axis=0).root_function
C.log_softmax(x).root_function
C.hardmax(x).root_function
C.argmax(x,axis=0).root_function
C.one_hot(C.input_variable(2),3).root_function.attributes
C.cast(x,np.float64).root_function.attributes
C.pad(x,[(1,1),(0,2)]).root_function.attributes
C.crop_manual(C.input_variable((2,5,5)),C.input_variable((2,3,3)),1,1).root_function.attributes
C.squeeze(C.reshape(x,(1,3,4))).root_function.attributes
C.flatten(x).root_function
C.stop_gradient(x).root_function
C.alias(x,'h').root_function
C.combine([x,x]).root_function
C.combine([C.relu(x),C.abs(x)]).root_function
C.as_block(C.relu(x),[],'Op','inst')
C.random.uniform((2,3)).root_function.attributes
C.random.normal((2,3)).root_function.attributes
C.random.bernoulli((2,3)).root_function.attributes
C.random.gumbel((2,3)).root_function.attributes
C.random.uniform_like(x).root_function.attributes
C.batch_normalization(x,*[C.parameter((3,),init=1) for i in range(4)],running_count=C.constant(0),spatial=True).root_function.attributes
C.pooling(C.input_variable((1,4,4)),C.MAX_POOLING,(2,2),(2,2)).root_function.attributes
C.pooling(C.input_variable((1,4,4)),C.AVG_POOLING,(2,2),(2,2),[True],include_pad=True).root_function.attributes
C.convolution(C.parameter((2,1,3,3)),C.input_variable((1,4,4))).root_function.attributes
C.convolution(C.parameter((2,1,3,3)),C.input_variable((1,4,4)),strides=2,auto_padding=[False,True,True]).root_function.attributes
C.roipooling(C.input_variable((1,4,4)),C.input_variable((2,4)),C.MAX_POOLING,(2,2),0.5).root_function.attributes
C.local_response_normalization(C.input_variable((3,4,4)),1,1.0,2.0,0.5).root_function
C.space_to_depth(C.input_variable((3,4,4)),2).root_function
C.depth_to_space(C.input_variable((4,4,4)),2).root_function
C.image_scaler(C.input_variable((3,4,4)),2.0,[1,2,3]).root_function
C.mean_variance_normalization(C.input_variable((3,4,4)),use_stats_across_channels=False).root_function
C.unpooling(C.pooling(C.input_variable((1,4,4)),C.MAX_POOLING,(2,2),(2,2)),C.input_variable((1,4,4)),C.MAX_UNPOOLING,(2,2),(2,2)).root_function.attributes
C.element_select(x,x,x).root_function
C.gather(C.parameter((4,2)),C.input_variable(3)).root_function
C.unpack_batch(x).root_function
C.to_batch(C.parameter((3,4))).root_function
C.eye_like(x).root_function
C.mean([x,x]).root_function
C.sum([x,x]).root_function
C.x_ent if hasattr(C,'x_ent') else None
C.squared_error(x,x).root_function
C.binary_cross_entropy(x,x).root_function
C.cosine_distance(x,x).root_function
C.classification_error(C.input_variable(4),C.input_variable(4),topN=2).root_function
C.classification_error(x,x,axis=0).root_function
C.cross_entropy_with_softmax(x,x,axis=0).root_function
C.ops.element_divide(x,x).root_function
C.ops.pow(x,2).root_function
C.ops.log_add_exp(x,x).root_function
C.ops.square(x).root_function
C.ops.reciprocal(x).root_function
C.ops.hard_sigmoid(x,1,2).root_function
C.ops.param_relu(C.parameter((3,4)),x).root_function
C.ops.softplus(x).root_function
''')
ask('eval',r'''
x,y,z,ce,pe=small()
z.eval({x:X})
z.eval({'x':X})
z.eval(X)
z.eval([X[0]])
z.eval(X[0])
z.eval({x:[X[0],X[1]]})
z.eval({x:X.tolist()})
z.eval({x:X.astype(np.float64)})
z.eval({x:X.astype(int)})
z.eval({x:[[1,2,3]]})
z.eval({})
z.eval()
z.eval({x:X,y:Y})
z.eval({y:Y})
z.eval({x:X[:,:2]})
z.eval({x:X.reshape(2,2,3)})
z.eval({x:X.reshape(4,1,3)})
z.eval({x:X.reshape(1,4,3)})
z.eval({x:X.reshape(4,1,1,3)})
z.eval({'nope':X})
z.eval({x:'s'})
z.eval({x:[]})
z.eval({x:X}, device=C.cpu())
z.eval({x:X}, as_numpy=False)
type(z.eval({x:X}, as_numpy=False)).__name__
z.eval({x:X}, [z.output])
z.eval({x:X}, (z.output,))
z.eval({x:X}, z.output)
z.eval({x:X}, z.outputs)
z.eval({x:X}, [z])
ce.eval({x:X,y:Y})
ce.eval({'x':X,'y':Y})
ce.eval([X,Y])
ce.eval((X,Y))
ce.eval(X,Y)
ce.eval({ce.arguments[0]:X,ce.arguments[1]:Y})
ce(X,Y)
ce.eval({x:X,y:Y[:2]})
ce.eval({x:X,y:Y.argmax(1)})
z.eval({z:X})
z.eval({z.output:X})
z.eval({x:C.Value(X)})
z.eval({x:C.Value(X).data})
z.eval({x:C.NDArrayView.from_dense(X)})
z.eval({x:C.Value.create(x,X)})
z(X)
z([X[0]])
z(X[0])
z(X[:1])
''')
ask('multi',r'''
x=C.input_variable(3,name='x'); y=C.input_variable(3,name='y')
a=C.relu(x,name='a'); b=C.plus(x,y,name='b')
m=C.combine([a,b],name='m')
m
m.name
m.root_function
m.outputs
m.output
m.shape
m.arguments
m.signature
r=m.eval({x:X,y:X})
r
r[a.output] if a.output in r else 'no'
r[a] if a in r else 'no'
sorted(type(k).__name__ for k in r)
[k.name for k in m.outputs]
m(X,X)
m.eval({x:X,y:X},[b.output])
m.eval({x:X,y:X},outputs=m.outputs[:1])
m.eval({x:X,y:X},outputs=[a,b])
m.a
m.b
m.m
m[0]
m[1]
m['a']
m[2]
m[0:1]
C.combine(m[0],m[1])
C.combine(a,b)
C.combine([a])
C.combine([a]).root_function
C.combine([x])
C.combine([a,a]).outputs
C.combine([a.output]).eval({x:X})
C.combine(a,b,name='q').name
[o for o in m]
a,b2=m.outputs
f,g=m
''')
ask('fwdbwd',r'''
x=C.input_variable(3,needs_gradient=True,name='x'); w=C.parameter((3,2),init=np.arange(6).reshape(3,2),name='w')
z=C.times(x,w,name='z')
s=C.reduce_sum(z)
df,fv=z.forward({x:X[:2]},[z.output],set([z.output]))
type(df).__name__
df
fv
df.device()
type(fv[z.output]).__name__
z.backward(df,{z.output:np.ones_like(fv[z.output])},set([x]))
z.backward(df,{z.output:np.ones_like(fv[z.output])},set([x,w]))
z.backward(df,{z.output:np.ones_like(fv[z.output])},set(z.parameters))
z.backward(df,{z.output:np.ones_like(fv[z.output])},[w])
z.backward(df,{z.output:np.ones_like(fv[z.output])},w)
z.backward(df,{z.output:np.ones_like(fv[z.output])},set())
z.backward(df,{z.output:np.ones_like(fv[z.output])},[w],as_numpy=False)
z.backward(df,np.ones_like(fv[z.output]),set([x,w]))
z.backward(None,{z.output:np.ones_like(fv[z.output])},set([w]))
z.backward(df,{},set([w]))
z.backward(df,{z.output:np.ones((3,3))},set([w]))
z.forward({x:X})
z.forward(X)
z.forward({x:X},[z])
z.forward({x:X},[z],keep_for_backward=[z])
z.forward({x:X},as_numpy=False)
z.forward({x:X},[z.output],as_numpy=False)[1][z.output]
z.forward({})
z.forward({x:X},[z.output,z.output])
z.grad({x:X})
z.grad({x:X},[x])
z.grad({x:X},[w])
z.grad({x:X},[x,w])
z.grad({x:X},z.parameters)
z.grad({x:X},[w],[z.output])
z.grad({x:X},[x,w],[z.output])
z.grad({x:X},outputs=[z])
z.grad(X)
z.grad({x:X},[w],as_numpy=False)
s.grad({x:X[0]})
s.grad({x:X},[w])
z.grad({x:X},['w'])
z.grad({})
z.grad({x:X},[])
C.times(C.input_variable(3),w).grad({})
C.relu(C.input_variable(3)).grad(X)
''')
ask('grad2',r'''
x=C.input_variable((2,),needs_gradient=True,name='x')
y=C.input_variable((2,),needs_gradient=True,name='y')
f=C.combine([x*y,x+y])
f.grad({x:[[1,2]],y:[[3,4]]},[x,y])
f.grad({x:[[1,2]],y:[[3,4]]},[x,y],grad_root=f.outputs[0])
f.grad({x:[[1,2]],y:[[3,4]]},[x,y],outputs=f.outputs,grad_root=f.outputs[0])
g=x*y
g.grad({x:[[1,2]],y:[[3,4]]})
g.grad({x:[[1,2]],y:[[3,4]]},[y])
g.grad({x:[[1,2]],y:[[3,4]]},[y],[g])
g.grad([[[1,2]],[[3,4]]])
g.grad({'x':[[1,2]],'y':[[3,4]]})
g.grad({'x':[[1,2]]})
g.grad({x:[[1,2]],y:[[3,4]]},wrt=[x,x])
C.stop_gradient(g).grad({x:[[1,2]],y:[[3,4]]},[x])
C.relu(g).grad({x:[[1,-2]],y:[[3,4]]},[x])
q=x*x
q.grad({x:[[3,4]]})
q.grad({x:np.array([[3,4],[5,6]])})
''')
ask('call',r'''
x=C.input_variable(3,name='x'); y=C.input_variable(3,name='y')
f=C.plus(x,y)
f(x,y)
f(1,2)
f(x)
f(x,y,x)
f(x=x,y=y)
f(y=y,x=x)
f(x,y=y)
f(z=x,y=y)
f([[1,2,3]],[[4,5,6]])
f(X,X)
f(X,y)
f(x,X)
f(C.constant([1,2,3]),y)
f(C.parameter(3),y)
f(C.relu(x),y)
f(C.relu,y)
f(None,y)
f({x:X,y:X})
g=C.placeholder(name='p')+1
g(x)
g(x).name
g(p=x)
g.arguments
g(C.input_variable((2,2)))
g(C.input_variable((2,2)))(np.ones((2,2)))
(C.relu >> C.abs) if callable(C.relu) and hasattr(C.relu,'__rshift__') else 'n'
h=C.layers.Dense(2) >> C.relu
h
h(x)
k=C.layers.Dense(2)(x) >> C.relu
k
x >> C.layers.Dense(2)
C.layers.Dense(2) << x
(C.layers.Dense(2) << x).shape
C.layers.Dense(2) >> (C.layers.Dense(3),C.layers.Dense(4))
C.layers.Sequential([C.layers.Dense(2),(C.relu,C.abs),C.plus])
C.layers.Sequential([C.layers.Dense(2),(C.relu,C.abs),C.plus])(x)
C.layers.Sequential([C.layers.Dense(2)])[0]
C.layers.Sequential([C.layers.Dense(2)]).op_name
''')
ask('ops',r'''
x=C.input_variable((2,3),name='x')
x+1
1+x
x-1
1-x
x*2
2*x
x/2
2/x
-x
abs(x)
x@C.parameter((3,4))
x**2
x>1
x==x
x!=x
x<1
x//2
x%2
x and 1
not x
bool(x)
int(x)
float(x)
len(x)
+x
~x
x[0]
x[0,1]
x[0:1]
x[:,1]
x[:,1:]
x[...,1]
x[-1]
x[5]
x[None]
x[0:2:1]
x[::2]
x[::-1]
x[[0,1]]
x[(0,1)]
x['a']
x[1.5]
x[x]
x[0:1,0:1,0:1]
x.eval({x:np.ones((2,3))})
x.eval(np.ones((2,3)))
(x+1).eval({x:np.ones((2,3))})
(np.float32(3)+x)
([1,2,3]+x)
(x+[1,2,3])
x+'a'
x+None
x+np.ones((4,))
x+C.input_variable((2,4))
x+C.input_variable((3,))
x+C.input_variable((2,3),dtype=np.float64)
C.plus(x)
C.plus()
C.plus(x,1,2)
C.plus(x,1,2,name='n').name
C.plus(x,y=1) if 0 else 0
C.times(x,x)
C.times(x,C.parameter((4,5)))
C.times(x,2)
C.relu()
C.relu(3)
C.relu([1,-2])
C.relu([1,-2]).eval()
C.relu(np.array([1.,-2.],np.float32)).eval()
C.relu('x')
C.relu(None)
C.reduce_sum([1,2,3]).eval()
C.reduce_sum(x,axis=5)
C.slice(x,0,0,5)
C.slice(x,3,0,1)
C.reshape(x,(5,))
C.reshape(x,(3,-1)).shape
C.reshape(x,(-1,-1))
C.splice(x)
''')
ask('clone',r'''
x,y,z,ce,pe=small()
c=z.clone('clone')
c=z.clone(C.CloneMethod.clone)
c
c.W.value is z.W.value
c.uid==z.uid
c.W.uid==z.W.uid
c.name
c.arguments[0].uid==x.uid
c.arguments
c.eval({x:X})
c.eval(X)
z.clone(C.CloneMethod.share).W.uid==z.W.uid
z.clone(C.CloneMethod.freeze).parameters
z.clone(C.CloneMethod.freeze).constants
z.clone('freeze').constants
z.clone('share')
z.clone('nope')
z.clone(3)
z.clone(None)
z.clone()
z.clone('clone',{x:C.input_variable(3,name='new')})
z.clone('clone',{x:C.input_variable(3,name='new')}).arguments
z.clone('clone',{x:C.input_variable(4,name='new')})
z.clone('share',{x:C.input_variable(4,name='new')})
z.clone('share',{x:C.placeholder(name='ph')})
z.clone('share',{x:C.placeholder()})
z.clone('share',{x:C.placeholder()})(C.input_variable(3))
z.clone('share',{x:C.relu(C.input_variable(3,name='q'))})
z.clone('share',{x:C.constant([1,2,3])})
z.clone('share',{x:C.constant([1,2,3])}).eval()
z.clone('share',{x:C.parameter(3)})
z.clone('share',{x:[1,2,3]})
z.clone('share',{y:x})
z.clone('share',{'x':C.input_variable(3)})
ce.clone('share',{z:C.input_variable(2,name='zz')})
ce.clone('share',{z.output:C.input_variable(2,name='zz')})
ce.clone('share',{z.output:C.input_variable(2,name='zz')}).arguments
ce.clone('share',{z.root_function:C.input_variable(2,name='zz')})
ce.clone('share',{x:y})
ce.clone('clone',{})
ce.clone('clone',None)
ce.clone('clone',{x:x})
C.combine([z,ce]).clone('clone')
C.combine([z,ce]).clone('clone').outputs
z.output.clone
x.clone
''')
ask('freeze',r'''
x,y,z,ce,pe=small()
f=z.clone('freeze',{x:C.placeholder(name='in')})
f
f.parameters
f.constants
f.fc
f.W
n=C.layers.Dense(4,name='head')(f(x))
n.parameters
n.constants
n
n.fc
n.head
n.head.W
n.eval({x:X}).shape
g=C.combine([z.fc.owner]).clone('freeze',{x:x}) if 0 else 0
h=C.combine([C.logging.graph.find_by_name(z,'fc')])
h
h.clone('freeze',{x:C.placeholder()})
''')
ask('blocks',r'''
a=C.placeholder(name='a'); b=C.placeholder(name='b')
x=C.input_variable(3,name='x'); y=C.input_variable(3,name='y')
f=C.as_block(a+b,[(a,x),(b,y)],'MyOp','inst')
f
f.name
f.op_name
f.root_function
f.root_function.op_name
f.is_block
f.is_primitive
f.root_function.is_block
f.root_function.is_primitive
f.root_function.block_root
f.block_root
f.arguments
f.inputs
f.root_function.inputs
f.inst
f.a
f.eval({x:X,y:X})
C.as_block(a+b,[(a,x)],'MyOp','inst')
C.as_block(a+1,[(a,x)],'MyOp')
C.as_block(a+1,[(a,x)],'MyOp','')
C.as_block(a+1,[(a,C.placeholder(name='r'))],'MyOp','n')(x)
@C.BlockFunction('Op2','blk')
def ff(p,q): return p*q
ff
ff.name
ff(x,y)
ff(x,y).blk
ff.arguments
ff.signature
gg
g2=gg(x)
g2
g2.blk
g2.blk.inner
g2.inner
g2.blk.inner.W
g2.blk.W
g2.find_by_name('inner')
g2.find_by_name('inner',1)
g2.find_by_name('inner',depth=-1)
g2.find_all_with_name('W')
g2.find_all_with_name('W',-1)
g2.find_all_with_name('')
g2.root_function.block_root
g2.root_function.block_composite if hasattr(g2.root_function,'block_composite') else 0
C.Function.new_block if 0 else 0
''')
ask('pyfunc',r'''
@C.Function
def f(a,b): return a+b*2
f
f.name
f.op_name
f.arguments
f.signature
f(1,2) if 0 else 0
x=C.input_variable(3,name='x')
f(x,x)
f(x,b=x)
f(b=x,a=x)
@C.Function
def g(a): return C.relu(a), C.abs(a)
g
g.outputs
g(x)
g(x).outputs
@C.Function
def h(): return C.constant(1)
h
h()
@C.Function
def h(x): return x
h
h(x)
@C.Function
def h(x,y=3): return x+y
h
h.signature
@C.Function
def h(x): return (C.output if 0 else C.relu)(x)
h
@C.Function
@C.layers.Signature(C.layers.Tensor[3])
def s(x): return x+1
s
s.arguments
s(X)
@C.Function.with_signature(C.layers.Tensor[3],C.layers.Tensor[3])
def t(p,q): return p+q
t
t.arguments
t(X,X)
t(x,x)
@C.layers.Signature(3,(3,4))
def u(x,y): return C.times(x,y)
C.Function(u)
@C.Function
@C.layers.Signature(x=C.layers.Tensor[3])
def v(x): return x+1
v
C.Function(lambda x: x+1)
C.Function(lambda a,b: a*b).signature
C.Function(3)
C.Function('a')
C.Function(None)
C.Function()
C.Function(f)
C.Function(np.sin)
@C.Function
def ann(x: C.layers.Tensor[3]): return x*2
ann
ann.arguments
C.Function(lambda x:x+1, name='nm')
C.Function(lambda x:x+1, name='nm').name
C.Function(lambda x:x+1, make_block=True, op_name='oo', name='nm') if 0 else 0
''')
ask('sig',r'''
f=C.layers.Dense(3)
f.update_signature(C.layers.Tensor[4])
f
f.shape
f.arguments
f=C.layers.Dense(3)
f.update_signature(4)
f
f.arguments
f=C.layers.Dense(3)
f.update_signature((2,3))
f
f=C.layers.Dense(3)
f.update_signature(x=5)
f=C.layers.Dense(3)
f.update_signature(C.layers.Sequence[C.layers.Tensor[3]])
f
f.dynamic_axes
f=C.layers.Dense(3)
f.update_signature(C.layers.SparseTensor[4])
f.arguments
f.arguments[0].is_sparse
f=C.layers.Dense(3)
f.update_signature()
f.update_signature(3,3)
f.update_signature('a')
f.update_signature(None)
f.update_signature(C.layers.ParameterTensor[3])
g=C.Function(lambda a,b:a+b)
g.update_signature(a=3,b=3)
g
g=C.Function(lambda a,b:a+b)
g.update_signature(3,b=3)
g.arguments
g=C.Function(lambda a,b:a+b)
g.update_signature(3)
C.layers.typing.float if hasattr(C.layers.typing,'float') else 0
C.input_variable(**C.layers.Tensor[3]) if 0 else 0
C.input(**{}) if 0 else 0
C.layers.Tensor[3](3)
''')
ask('debug',r'''
x,y,z,ce,pe=small()
C.debugging.dump_signature(z)
C.debugging.dump_signature(z,'tag')
C.debugging.dump_function(z)
C.debugging.dump_function(z,'tag')
C.debugging.dump_signature(C.layers.Dense(3))
C.debugging.dump_function(C.layers.Sequential([C.layers.Dense(3,C.relu,name='a'),C.layers.Dense(2)])(x))
C.debugging.dump_signature(C.combine([z,ce]))
C.debugging.set_checked_mode(True)
C.debugging.set_checked_mode(False)
C.debugging.set_computation_network_trace_level(0)
C.debugging.force_deterministic(1)
C.debugging.enable_profiler()
C.debugging.start_profiler('p')
C.debugging.stop_profiler()
C.debugging.disable_profiler()
C.debugging.start_profiler(dir='q',sync_gpu=True,reserve_mem=1000)
C.debugging.stop_profiler()
C.debugging.set_node_timing(True)
C.debugging.save_as_legacy_model(3,'leg')
''')
ask('graph',r'''
x,y,z,ce,pe=small()
m=C.layers.Sequential([C.layers.Dense(3,C.relu,name='a'),C.layers.Dense(2,name='b')])(x)
g=C.logging.graph
g.depth_first_search(m,lambda v:True)
g.depth_first_search(m,lambda v:True,-1)
g.depth_first_search(m,lambda v:True,depth=2)
g.depth_first_search(m.root_function,lambda v:True)
g.depth_first_search(m.output,lambda v:True)
g.depth_first_search(x,lambda v:True)
g.depth_first_search(m,lambda v:isinstance(v,C.Function))
g.depth_first_search(m,lambda v:False)
g.depth_first_search(m,lambda v: hasattr(v,'op_name') and v.op_name=='Dense')
g.depth_first_search(m,3)
g.depth_first_search(3,lambda v:True)
g.find_all_with_name(m,'')
g.find_all_with_name(m,'a')
g.find_all_with_name(m,'W')
g.find_all_with_name(m,'W',-1)
g.find_all_with_name(m,'nope')
g.find_all_with_name(m,None)
g.find_by_name(m,'a')
g.find_by_name(m,'W')
g.find_by_name(m,'W',-1)
g.find_by_name(m,'nope')
g.find_by_name(m,3)
g.find_by_name(m,'x')
g.find_by_uid(m,x.uid)
g.find_by_uid(m,m.uid)
g.find_by_uid(m,m.root_function.uid)
g.find_by_uid(m,'nope')
g.find_by_uid(m,m.a.W.uid)
g.find_by_uid(m,m.output.uid)
g.get_node_outputs(m)
g.get_node_outputs(m,-1)
g.get_node_outputs(ce)
g.get_node_outputs(x)
m.find_by_name('a')
m.find_by_name('W')
m.find_by_name('nope')
m.find_by_name('x')
m.find_by_name(None)
m.find_all_with_name('x')
m.find_all_with_name('a')
g.plot(m)
g.plot(m,None)
g.plot(z)
g.plot(ce)
g.plot(C.combine([z,ce]))
g.plot(m.root_function)
g.plot(x)
g.plot(m,'a.xyz')
g.plot(3)
C.logging.plot is g.plot if hasattr(C.logging,'plot') else 0
n=C.relu(C.relu(x,name='same'),name='same')
n.find_by_name('same')
n.find_all_with_name('same')
g.find_by_name(n,'same')
g.output_function_graph if hasattr(g,'output_function_graph') else 'none'
g.try_find_closest if hasattr(g,'try_find_closest') else 'none'
''')
ask('trainer',r'''
x,y,z,ce,pe=small()
l=C.sgd(z.parameters,C.learning_parameter_schedule(0.1,1))
t=C.Trainer(z,(ce,pe),[l])
t
t.model
t.loss_function
t.evaluation_function
t.parameter_learners
t.progress_writers
t.total_number_of_samples_seen
t.previous_minibatch_sample_count
t.previous_minibatch_loss_average
t.previous_minibatch_evaluation_average
t.train_minibatch({x:X,y:Y})
t.previous_minibatch_loss_average
t.previous_minibatch_evaluation_average
t.previous_minibatch_sample_count
t.total_number_of_samples_seen
t.train_minibatch({x:X,y:Y},outputs=[z])
t.train_minibatch({x:X,y:Y},outputs=[z.output])
t.train_minibatch({x:X,y:Y},outputs=[z.output,ce.output])
t.train_minibatch({x:X,y:Y},[z.output])
t.train_minibatch({x:X,y:Y},outputs=[])
t.train_minibatch({x:X,y:Y},outputs=z.output)
t.train_minibatch({x:X,y:Y},device=C.cpu())
t.train_minibatch({x:X,y:Y},is_sweep_end=True)
t.train_minibatch({'x':X,'y':Y})
t.train_minibatch({x:X})
t.train_minibatch({})
t.train_minibatch([X,Y])
t.train_minibatch((X,Y))
t.train_minibatch(X,Y)
t.train_minibatch({x:X,y:Y,C.input_variable(3):X})
t.train_minibatch({x:[],y:[]})
t.train_minibatch({x:C.Value(X),y:C.Value(Y)})
t.train_minibatch({x:X,y:Y[:2]})
t.test_minibatch({x:X,y:Y})
t.test_minibatch({'x':X,'y':Y})
t.test_minibatch({x:X})
t.test_minibatch({})
t.summarize_training_progress()
t.summarize_test_progress()
t.print_node_timing()
t.foo
z.W.value
''')
ask('tr2',r'''
x,y,z,ce,pe=small()
l=C.sgd(z.parameters,0.1)
C.Trainer(z,ce,[l]).evaluation_function
C.Trainer(z,ce,l).parameter_learners
C.Trainer(z,(ce,),[l])
C.Trainer(z,(ce,None),[l]).evaluation_function
C.Trainer(z,[ce,pe],[l]).evaluation_function
C.Trainer(z,C.combine([ce,pe]),[l]).evaluation_function
C.Trainer(z,(ce,pe,pe),[l])
C.Trainer(z,(),[l])
C.Trainer(None,(ce,pe),[l]).model
C.Trainer(None,(ce,pe),[l]).train_minibatch({x:X,y:Y})
C.Trainer(z,(ce,pe),[])
C.Trainer(z,(ce,pe))
C.Trainer(z,(ce,pe),[l,C.sgd(z.parameters,0.2)])
C.Trainer(z,(ce,pe),[C.sgd([z.W],0.2)])
C.Trainer(z,(ce,pe),[C.sgd([z.W],0.2),C.sgd([z.b],0.1)]).parameter_learners
C.Trainer(z,(ce,pe),[C.sgd([z.W,z.b,C.parameter(3)],0.2)])
C.Trainer(z,(ce,pe),3)
C.Trainer(z.output,(ce.output,pe.output),[l])
C.Trainer(z,z,[l])
C.Trainer(z,z,[l]).train_minibatch({x:X})
C.Trainer(z,(ce,pe),[l],progress_writers=C.logging.ProgressPrinter(1)).progress_writers
C.Trainer(z,(ce,pe),[l],[C.logging.ProgressPrinter(1)]).progress_writers
C.Trainer(z,(ce,pe),[l],None).progress_writers
C.Trainer(z,(ce,pe),[l],3)
C.Trainer(z,(ce,pe),l,eval_function=pe)
C.Trainer(model=z,criterion=(ce,pe),parameter_learners=[l])
C.Trainer(C.relu(x),(ce,pe),[l])
C.Trainer(C.relu(C.input_variable(3)),(ce,pe),[l])
t=C.Trainer(z,ce,[l]); t.train_minibatch({x:X,y:Y}); t.previous_minibatch_evaluation_average
t.test_minibatch({x:X,y:Y})
C.Trainer(z,(ce,pe),[l]).save_checkpoint('ck')
C.Trainer(z,(ce,pe),[l]).save_checkpoint('ck',{'a':1,'b':'x','c':[1,2],'d':{'e':2.5}})
C.Trainer(z,(ce,pe),[l]).restore_from_checkpoint('ck')
C.Trainer(z,(ce,pe),[l]).restore_from_checkpoint('nope')
C.Trainer(z,(ce,pe),[l]).save_checkpoint('ck',external_state={1:2})
C.Trainer(z,(ce,pe),[l]).save_checkpoint('ck',external_state=3)
C.Trainer(z,(ce,pe),[l]).save_checkpoint('no/such/ck')
m=C.load_model('ck')
m
[o.name for o in m.outputs]
t=C.Trainer(z,(ce,pe),[l])
t.train_minibatch({x:X,y:Y})
w=z.W.value
t.train_minibatch({x:X,y:Y})
t.previous_minibatch_loss_average
z.restore('nothing')
z.save('zz'); z.restore('zz')
C.Function.load('zz')
''')
ask('learners',r'''
x,y,z,ce,pe=small()
l=C.sgd(z.parameters,C.learning_parameter_schedule(0.1))
l
l.parameters
l.learning_rate()
l.reset_learning_rate(C.learning_parameter_schedule(0.5))
l.learning_rate()
l.reset_learning_rate(0.4)
l.minibatch_size
l.is_compatible_mode()
l.update({z.W:C.NDArrayView.from_dense(np.ones((3,2),np.float32)),z.b:C.NDArrayView.from_dense(np.ones((2,),np.float32))},4)
l.update({z.W:np.ones((3,2),np.float32),z.b:np.ones((2,),np.float32)},4)
z.b.value
l.update(None,4)
l.reset_smoothed_gradients()
C.sgd([],0.1)
C.sgd(z,0.1)
C.sgd(z.parameters,'a')
C.sgd(z.parameters,None)
C.sgd(z.parameters)
C.sgd(z.parameters,lr=C.learning_rate_schedule(0.1,C.UnitType.minibatch))
C.sgd(z.parameters,0.1,foo=3)
C.sgd(z.parameters,[0.1,0.2])
C.sgd(z.parameters,[0.1,0.2],minibatch_size=1,epoch_size=10).learning_rate()
C.momentum_sgd(z.parameters,0.1)
C.momentum_sgd(z.parameters,0.1,0.9)
C.momentum_sgd(z.parameters,0.1,C.momentum_schedule(0.9))
C.adam(z.parameters,0.1,0.9)
C.adam(z.parameters,0.1)
s=C.learning_parameter_schedule([(2,0.1),(3,0.2)],minibatch_size=4,epoch_size=10)
s[0],s[19],s[20],s[1000]
s.minibatch_size
s.is_minibatch_size_explicitly_specified
C.learning_parameter_schedule(0.1).minibatch_size
C.learning_parameter_schedule('a')
C.momentum_as_time_constant_schedule(100)[0]
C.momentum_schedule(0.9)[0]
C.minibatch_size_schedule([16,32],epoch_size=100)[150]
C.UnitType.sample
C.learning_rate_schedule(0.1,C.UnitType.sample)[0]
C.learning_rate_schedule(0.1,unit=3)
C.learning_rate_schedule(0.1)
''')
ask('evaluator',r'''
x,y,z,ce,pe=small()
e=C.eval.Evaluator(pe)
e
e.evaluation_function
e.test_minibatch({x:X,y:Y})
e.test_minibatch({'x':X,'y':Y})
e.test_minibatch({x:X})
e.summarize_test_progress()
e.progress_writers
C.eval.Evaluator()
''')
ask('writer',r'''
class W(C.cntk_py.ProgressWriter):
    def __init__(self,*a):
        super(W,self).__init__(*a)
    def on_write_training_update(self,samples,updates,aggregate_loss,aggregate_metric): print('tu',samples,updates,[round(float(v),3) for v in aggregate_loss],[round(float(v),3) for v in aggregate_metric])
    def on_write_test_update(self,samples,updates,aggregate_metric): print('eu',samples,updates,[round(float(v),3) for v in aggregate_metric])
    def on_write_training_summary(self,samples,updates,summaries,aggregate_loss,aggregate_metric,elapsed_milliseconds): print('ts',samples,updates,summaries,round(aggregate_loss,3),round(aggregate_metric,3))
    def on_write_test_summary(self,samples,updates,summaries,aggregate_metric,elapsed_milliseconds): print('es',samples,updates,summaries,round(aggregate_metric,3))
    def on_training_update_end(self): print('end')
    def write(self,k,v): print('w',k,v)
def go(*a):
    x,y,z,ce,pe=small()
    w=W(*a); w.__disown__()
    t=C.Trainer(z,(ce,pe),[C.sgd(z.parameters,C.learning_parameter_schedule(0.1,4))],[w])
    for i in range(4): t.train_minibatch({x:X,y:Y})
    t.summarize_training_progress()
    for i in range(3): t.train_minibatch({x:X,y:Y})
    t.summarize_training_progress()
    for i in range(3): t.test_minibatch({x:X,y:Y})
    t.summarize_test_progress()
    t.test_minibatch({x:X,y:Y})
    t.summarize_test_progress()
go(1,0,1,0,1,0)
go(2,0,2,0,2,0)
go(2,1,2,1,2,1)
go(0,0,0,0,0,0)
go(3,2,3,2,1,0)
go()
go(1,0)
go(1,0,1,0)
''')
ask('summarycb',r'''
x,y,z,ce,pe=small()
cb=C.logging.progress_print.TrainingSummaryProgressCallback(2,lambda i,s,u,l,m: print('cb',i,s,u,round(l,3),round(m,3)) or True)
t=C.Trainer(z,(ce,pe),[C.sgd(z.parameters,C.learning_parameter_schedule(0.1,4))],[cb])
''')
