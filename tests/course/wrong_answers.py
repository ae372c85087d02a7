"""Wrong submissions, written before the diagnosis engine and without looking at the mutants.

Each has the assignment, the function that is wrong, the mistake in words, a pattern that a right
reason or a right region must match, and the code as a student might write it.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Wrong:
    """One wrong submission of one function."""

    assignment: str
    function: str
    mistake: str
    told: str
    source: str

    @property
    def id(self) -> str:
        """A short name for a test."""
        return f"{self.function}-{'-'.join(re.findall('[a-z0-9]+', self.mistake.lower())[:6])}"


def _parse(text: str) -> list[Wrong]:
    """Entries ``## assignment function | mistake | pattern`` and the code below each."""
    found = []
    for part in text.strip().split("\n## ")[0:]:
        head, _, source = part.partition("\n")
        place, mistake, told = (piece.strip() for piece in head.removeprefix("## ").split(" | "))
        assignment, function = place.split()
        found.append(Wrong(assignment, function, mistake, told, source.strip() + "\n"))
    return found


TEXT = r'''
## a1_bfgs bfgs_inverse_update | rank two form with a minus in the bracket | sign
def bfgs_inverse_update(H, s, y):
    sy = s.dot(y)
    if not sy > 0:
        raise LinAlgError("bad pair")
    Hy = H.dot(y)
    a = (1 - y.dot(Hy) / sy) / sy
    return H + a * np.outer(s, s) - (np.outer(s, Hy) + np.outer(Hy, s)) / sy

## a1_bfgs bfgs_inverse_update | rank two form, one of the two cross terms forgotten | missing|symmetr
def bfgs_inverse_update(H, s, y):
    sy = s.dot(y)
    if not sy > 0:
        raise LinAlgError("bad pair")
    Hy = H.dot(y)
    return H + (1 + y.dot(Hy) / sy) / sy * np.outer(s, s) - np.outer(s, Hy) / sy

## a1_bfgs bfgs_inverse_update | DFP instead of BFGS | DFP|y yᵀ|H y
def bfgs_inverse_update(H, s, y):
    sy = s @ y
    if not sy > 0:
        raise LinAlgError("bad pair")
    Hy = H @ y
    return H - np.outer(Hy, Hy) / (y @ Hy) + np.outer(s, s) / sy

## a1_bfgs bfgs_inverse_update | s and y swapped in the last term | y yᵀ
def bfgs_inverse_update(H, s, y):
    rho = 1 / (s @ y)
    if not rho > 0:
        raise LinAlgError("bad pair")
    I = np.eye(len(s))
    return (I - rho * np.outer(s, y)) @ H @ (I - rho * np.outer(y, s)) + rho * np.outer(y, y)

## a1_bfgs bfgs_inverse_update | the last term without rho | ρ
def bfgs_inverse_update(H, s, y):
    rho = 1 / (s @ y)
    if not rho > 0:
        raise LinAlgError("bad pair")
    V = np.eye(len(s)) - rho * np.outer(y, s)
    return V.T @ H @ V + np.outer(s, s)

## a1_bfgs bfgs_inverse_update | elementwise product of s and s | outer|diagonal|s sᵀ
def bfgs_inverse_update(H, s, y):
    rho = 1 / (s @ y)
    if not rho > 0:
        raise LinAlgError("bad pair")
    V = np.eye(len(s)) - rho * np.outer(y, s)
    return V.T @ H @ V + rho * s * s

## a1_bfgs bfgs_inverse_update | rho divides by yTy | yᵀy
def bfgs_inverse_update(H, s, y):
    if not s @ y > 0:
        raise LinAlgError("bad pair")
    rho = 1 / (y @ y)
    V = np.eye(len(s)) - rho * np.outer(y, s)
    return V.T @ H @ V + rho * np.outer(s, s)

## a1_bfgs bfgs_inverse_update | plus in both brackets | sign
def bfgs_inverse_update(H, s, y):
    rho = 1 / (s @ y)
    if not rho > 0:
        raise LinAlgError("bad pair")
    V = np.eye(len(s)) + rho * np.outer(y, s)
    return V.T @ H @ V + rho * np.outer(s, s)

## a1_bfgs bfgs_inverse_update | refuses small curvature by an absolute number | refuse|stops|LinAlgError
def bfgs_inverse_update(H, s, y):
    sy = s @ y
    if not sy > 1.0:
        raise LinAlgError("curvature too small")
    V = np.eye(len(s)) - np.outer(y, s) / sy
    return V.T @ H @ V + np.outer(s, s) / sy

## a1_bfgs bfgs_direct_update | both terms have each other's denominator | sᵀB s|sᵀBs|sᵀy
def bfgs_direct_update(B, s, y):
    v = B @ s
    return B - np.outer(v, v) / (s @ y) + np.outer(y, y) / (s @ v)

## a1_bfgs bfgs_direct_update | the last term has s sT | s sᵀ
def bfgs_direct_update(B, s, y):
    v = B @ s
    return B - np.outer(v, v) / np.dot(s, v) + np.outer(s, s) / np.dot(s, y)

## a1_bfgs bfgs_direct_update | B s without B on the right | s
def bfgs_direct_update(B, s, y):
    v = B @ s
    return B - np.outer(v, s) / np.dot(s, v) + np.outer(y, y) / np.dot(s, y)

## a1_bfgs bfgs_direct_update | minus before both terms | sign
def bfgs_direct_update(B, s, y):
    v = B @ s
    return B - np.outer(v, v) / np.dot(s, v) - np.outer(y, y) / np.dot(y, s)

## a1_bfgs inverse_from_products | unit vectors as steps | conjugate|n ≥ 2|n >= 2
def inverse_from_products(multiply, n):
    H = np.eye(n)
    out = []
    for i in range(n):
        e = np.zeros(n)
        e[i] = 1.0
        y = multiply(e)
        rho = 1 / (e @ y)
        V = np.eye(n) - rho * np.outer(y, e)
        H = V.T @ H @ V + rho * np.outer(e, e)
        out.append(H)
    return out

## a2_damping powell_damp | damps towards y and not H y | H y
def powell_damp(H, s, y, *, mu1=0.2):
    Hy = H @ y
    q = y @ Hy
    sy = s @ y
    if sy >= mu1 * q:
        return s.copy()
    t = (1 - mu1) * q / (q - sy)
    return t * s + (1 - t) * y

## a2_damping powell_damp | theta and 1-theta exchanged | θ|swapped
def powell_damp(H, s, y, *, mu1=0.2):
    Hy = H @ y
    q = y @ Hy
    sy = s @ y
    if sy >= mu1 * q:
        return s.copy()
    t = (1 - mu1) * q / (q - sy)
    return (1 - t) * s + t * Hy

## a2_damping powell_damp | the threshold is yTHy without mu1 | mu1|μ₁|yᵀH ?y
def powell_damp(H, s, y, *, mu1=0.2):
    Hy = H @ y
    q = y @ Hy
    sy = s @ y
    t = 1.0
    if sy < q:
        t = (1 - mu1) * q / (q - sy)
    return t * s + (1 - t) * Hy

## a2_damping powell_damp | the inequality the wrong way round | ≥|inequality|<
def powell_damp(H, s, y, *, mu1=0.2):
    Hy = H @ y
    q = y @ Hy
    sy = s @ y
    t = 1.0
    if sy > mu1 * q:
        t = (1 - mu1) * q / (q - sy)
    return t * s + (1 - t) * Hy

## a2_damping powell_damp | yTy where yTHy belongs | yᵀy
def powell_damp(H, s, y, *, mu1=0.2):
    q = y @ y
    sy = s @ y
    t = 1.0
    if sy < mu1 * q:
        t = (1 - mu1) * q / (q - sy)
    return t * s + (1 - t) * H @ y

## a2_damping powell_damp | damps only negative curvature | sᵀy|damp
def powell_damp(H, s, y, *, mu1=0.2):
    Hy = H @ y
    q = y @ Hy
    sy = s @ y
    if sy >= 0:
        return 1.0 * s
    t = (1 - mu1) * q / (q - sy)
    return t * s + (1 - t) * Hy

## a2_damping powell_damp | another default | default
def powell_damp(H, s, y, *, mu1=0.25):
    Hy = H @ y
    q = y @ Hy
    sy = s @ y
    if sy >= mu1 * q:
        return 1.0 * s
    t = (1 - mu1) * q / (q - sy)
    return t * s + (1 - t) * Hy

## a2_damping powell_damp | numerator 1 - mu1 without yTHy | yᵀH ?y|missing
def powell_damp(H, s, y, *, mu1=0.2):
    Hy = H @ y
    q = y @ Hy
    sy = s @ y
    if sy >= mu1 * q:
        return 1.0 * s
    t = (1 - mu1) / (q - sy)
    return t * s + (1 - t) * Hy

## a2_damping lm_damp | a minus | sign
def lm_damp(s, y, *, lam):
    return y - lam * s

## a2_damping lm_damp | square root of lambda | √λ
def lm_damp(s, y, *, lam):
    return y + np.sqrt(lam) * s

## a2_damping lm_damp | lambda times y | y
def lm_damp(s, y, *, lam):
    return y + lam * y

## a2_damping dp_dlm_damp | LM first, then Powell | order|first
def dp_dlm_damp(H, s, y, *, mu1=0.2, lam):
    y2 = y + lam * s
    Hy = H @ y2
    q = y2 @ Hy
    sy = s @ y2
    t = 1.0 if sy >= mu1 * q else (1 - mu1) * q / (q - sy)
    return Pair(t * s + (1 - t) * Hy, y2)

## a2_damping dp_dlm_damp | mu1 is not handed on | mu1|μ₁
def dp_dlm_damp(H, s, y, *, mu1=0.2, lam):
    s2 = powell_damp(H, s, y)
    return Pair(s2, y + lam * s2)

## a2_damping dp_dlm_damp | the pair in the other order | swapped|order
def dp_dlm_damp(H, s, y, *, mu1=0.2, lam):
    s2 = powell_damp(H, s, y, mu1=mu1)
    return Pair(y + lam * s2, s2)

## a2_damping worst_pair | the eigenvector of the largest eigenvalue | eigen|bound
def worst_pair(H):
    w, V = np.linalg.eigh(H)
    return np.zeros(len(H)), V[:, -1]

## a3_lbfgs lbfgs_push | keeps one pair too many | memory|many
def lbfgs_push(S, Y, s, y, *, memory):
    S2 = np.vstack([S, s])
    Y2 = np.vstack([Y, y])
    return S2[-(memory + 1):], Y2[-(memory + 1):]

## a3_lbfgs lbfgs_push | the newest first | newest|order|first
def lbfgs_push(S, Y, s, y, *, memory):
    S2 = np.vstack([s, S])[:memory]
    Y2 = np.vstack([y, Y])[:memory]
    return S2, Y2

## a3_lbfgs lbfgs_push | only S is shortened | Y|second
def lbfgs_push(S, Y, s, y, *, memory):
    S2 = np.vstack([S, s])
    Y2 = np.vstack([Y, y])
    if len(S2) > memory:
        S2 = S2[1:]
    return S2, Y2

## a3_lbfgs lbfgs_dense | the newest first | order|revers|m ≥ 2|pairs
def lbfgs_dense(S, Y, *, gamma=1.0):
    H = gamma * np.eye(S.shape[1])
    for s, y in zip(S[::-1], Y[::-1]):
        H = bfgs_inverse_update(H, s, y)
    return H

## a3_lbfgs lbfgs_dense | starts from the identity | γ
def lbfgs_dense(S, Y, *, gamma=1.0):
    H = np.eye(S.shape[1])
    for s, y in zip(S, Y):
        H = bfgs_inverse_update(H, s, y)
    return H

## a3_lbfgs lbfgs_dense | only the last pair is used | pair|m ≥ 2
def lbfgs_dense(S, Y, *, gamma=1.0):
    H = gamma * np.eye(S.shape[1])
    if len(S):
        H = bfgs_inverse_update(H, S[-1], Y[-1])
    return H

## a3_lbfgs lbfgs_two_loop | gamma multiplies at the very end | γ
def lbfgs_two_loop(S, Y, q, *, gamma=1.0):
    q = q.copy()
    m = len(S)
    a = [0.0] * m
    for i in range(m - 1, -1, -1):
        a[i] = S[i] @ q / (S[i] @ Y[i])
        q = q - a[i] * Y[i]
    for i in range(m):
        b = Y[i] @ q / (S[i] @ Y[i])
        q = q + (a[i] - b) * S[i]
    return gamma * q

## a3_lbfgs lbfgs_two_loop | plus beta | sign
def lbfgs_two_loop(S, Y, q, *, gamma=1.0):
    q = q.copy()
    m = len(S)
    a = np.zeros(m)
    for i in range(m - 1, -1, -1):
        a[i] = S[i] @ q / (S[i] @ Y[i])
        q = q - a[i] * Y[i]
    r = gamma * q
    for i in range(m):
        b = Y[i] @ r / (S[i] @ Y[i])
        r = r + (a[i] + b) * S[i]
    return r

## a3_lbfgs lbfgs_two_loop | beta with q and not r | q
def lbfgs_two_loop(S, Y, q, *, gamma=1.0):
    m = len(S)
    a = np.zeros(m)
    for i in reversed(range(m)):
        a[i] = S[i] @ q / (S[i] @ Y[i])
        q = q - a[i] * Y[i]
    r = gamma * q
    for i in range(m):
        b = Y[i] @ q / (S[i] @ Y[i])
        r = r + (a[i] - b) * S[i]
    return r

## a3_lbfgs lbfgs_two_loop | the first loop skips the oldest pair | oldest|pair|loop
def lbfgs_two_loop(S, Y, q, *, gamma=1.0):
    m = len(S)
    a = np.zeros(m)
    for i in range(m - 1, 0, -1):
        a[i] = S[i] @ q / (S[i] @ Y[i])
        q = q - a[i] * Y[i]
    r = gamma * q
    for i in range(m):
        b = Y[i] @ r / (S[i] @ Y[i])
        r = r + (a[i] - b) * S[i]
    return r

## a3_lbfgs lbfgs_two_loop | subtracts along s in the first loop | s
def lbfgs_two_loop(S, Y, q, *, gamma=1.0):
    m = len(S)
    rho = 1 / np.einsum("ij,ij->i", S, Y)
    a = np.zeros(m)
    for i in reversed(range(m)):
        a[i] = rho[i] * (S[i] @ q)
        q = q - a[i] * S[i]
    r = gamma * q
    for i in range(m):
        b = rho[i] * Y[i] @ r
        r = r + (a[i] - b) * S[i]
    return r

## a3_lbfgs lbfgs_compact | lower triangle | triangle|lower|tril
def lbfgs_compact(S, Y, *, gamma=1.0):
    R = np.linalg.inv(np.tril(S @ Y.T))
    D = np.diag(np.diag(S @ Y.T))
    Z = np.zeros_like(R)
    M = np.block([[R.T @ (D + gamma * Y @ Y.T) @ R, -R.T], [-R, Z]])
    W = np.vstack([S, gamma * Y])
    return gamma * np.eye(S.shape[1]) + W.T @ M @ W

## a3_lbfgs lbfgs_compact | Y without gamma in the outer factor | γ
def lbfgs_compact(S, Y, *, gamma=1.0):
    R = np.linalg.inv(np.triu(S @ Y.T))
    D = np.diag(np.diag(S @ Y.T))
    Z = np.zeros_like(R)
    M = np.block([[R.T @ (D + gamma * Y @ Y.T) @ R, -R.T], [-R, Z]])
    W = np.vstack([S, Y])
    return gamma * np.eye(S.shape[1]) + W.T @ M @ W

## a3_lbfgs lbfgs_compact | D left out | D
def lbfgs_compact(S, Y, *, gamma=1.0):
    R = np.linalg.inv(np.triu(S @ Y.T))
    Z = np.zeros_like(R)
    M = np.block([[R.T @ (gamma * Y @ Y.T) @ R, -R.T], [-R, Z]])
    W = np.vstack([S, gamma * Y])
    return gamma * np.eye(S.shape[1]) + W.T @ M @ W

## a4_kronecker im2col | rows and columns of the padding exchanged | padding
def im2col(x, kernel_size, *, stride, padding, dilation):
    N, C, H, W = x.shape
    kh, kw = kernel_size
    sh, sw = stride
    pw, ph = padding
    dh, dw = dilation
    R = (H + 2 * ph - dh * (kh - 1) - 1) // sh + 1
    Q = (W + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    out = np.zeros((N, R * Q, C * kh * kw))
    for r in range(R):
        for q in range(Q):
            for c in range(C):
                for i in range(kh):
                    for j in range(kw):
                        out[:, r * Q + q, (c * kh + i) * kw + j] = x[:, c, r * sh + i * dh, q * sw + j * dw]
    return out

## a4_kronecker im2col | features with the channel last | channel
def im2col(x, kernel_size, *, stride, padding, dilation):
    N, C, H, W = x.shape
    kh, kw = kernel_size
    sh, sw = stride
    ph, pw = padding
    dh, dw = dilation
    R = (H + 2 * ph - dh * (kh - 1) - 1) // sh + 1
    Q = (W + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    out = np.zeros((N, R * Q, C * kh * kw))
    for r in range(R):
        for q in range(Q):
            for c in range(C):
                for i in range(kh):
                    for j in range(kw):
                        out[:, r * Q + q, (i * kw + j) * C + c] = x[:, c, r * sh + i * dh, q * sw + j * dw]
    return out

## a4_kronecker im2col | the dilation is left out of the slices | dilation
def im2col(x, kernel_size, *, stride, padding, dilation):
    N, C, H, W = x.shape
    kh, kw = kernel_size
    sh, sw = stride
    ph, pw = padding
    dh, dw = dilation
    R = (H + 2 * ph - dh * (kh - 1) - 1) // sh + 1
    Q = (W + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    out = np.zeros((N, R * Q, C * kh * kw))
    for r in range(R):
        for q in range(Q):
            for c in range(C):
                for i in range(kh):
                    for j in range(kw):
                        out[:, r * Q + q, (c * kh + i) * kw + j] = x[:, c, r * sh + i, q * sw + j]
    return out

## a4_kronecker append_one | zeros instead of ones | 0|zero|last
def append_one(a):
    N, T, d = a.shape
    out = np.zeros((N, T, d + 1))
    out[:, :, :d] = a
    return out

## a4_kronecker input_factor | divided by the locations too | T|location
def input_factor(a_bar):
    N, T, d = a_bar.shape
    X = a_bar.reshape(N * T, d)
    return X.T @ X / len(X)

## a4_kronecker input_factor | not divided at all | N|batch|samples
def input_factor(a_bar):
    X = a_bar.reshape(-1, a_bar.shape[2])
    return X.T @ X

## a4_kronecker output_factor | all pairs of locations | t|location
def output_factor(Hh):
    N, T = Hh.shape[:2]
    return Hh.sum(axis=(0, 1, 3)) / (N * T)

## a4_kronecker output_factor | not divided by the locations | T|location
def output_factor(Hh):
    N, T = Hh.shape[:2]
    G = sum(Hh[n, t, :, t, :] for n in range(N) for t in range(T))
    return G / N

## a4_kronecker kron | the factors exchanged | A|swapped
def kron(A, G):
    m, n = G.shape
    p, q = A.shape
    out = np.zeros((m * p, n * q))
    for i in range(m):
        for j in range(n):
            out[i * p:(i + 1) * p, j * q:(j + 1) * q] = G[i, j] * A
    return out

## a4_kronecker kron_matvec | A not transposed | transpos|Aᵀ
def kron_matvec(A, G, X):
    return G @ X @ A

## a4_kronecker kron_matvec | A and G exchanged | A|G
def kron_matvec(A, G, X):
    return A @ X @ G.T

## a5_action hessian_action | divided by N T | T|location
def hessian_action(a_bar, v):
    N, T, d = a_bar.shape
    X = a_bar.reshape(N * T, d)
    return X.T @ (X @ v) / (N * T)

## a5_action hessian_action | square of the average | average|mean|N ≥ 2|samples
def hessian_action(a_bar, v):
    m = a_bar.mean(axis=0)
    return m.T @ (m @ v)

## a5_action conv_hessian_action | bias entry not summed over the batch mean | bias|last
def conv_hessian_action(conv, a, v):
    X = _patches(conv, a)
    N = len(a)
    d = X.shape[2]
    u = X @ v[:d]
    if conv.bias:
        u = u + v[-1]
    out = np.einsum("nt,ntd->d", u, X) / N
    if conv.bias:
        out = np.append(out, u.sum())
    return out

## a5_action conv_hessian_action | the bias of v is forgotten in u | bias
def conv_hessian_action(conv, a, v):
    X = _patches(conv, a)
    N = len(a)
    d = X.shape[2]
    u = X @ v[:d]
    out = np.einsum("nt,ntd->d", u, X)
    if conv.bias:
        out = np.append(out, u.sum())
    return out / N

## a5_action conv_hessian_action | the stride of rows used for columns | stride
def conv_hessian_action(conv, a, v):
    X = _patches(conv, a, stride=(conv.stride[0], conv.stride[0]))
    N = len(a)
    d = X.shape[2]
    u = X @ v[:d]
    if conv.bias:
        u = u + v[-1]
    out = np.einsum("nt,ntd->d", u, X)
    if conv.bias:
        out = np.append(out, u.sum())
    return out / N

## a5_action input_mean | mean over the batch, sum over locations | T|location|sum
def input_mean(a_bar):
    return a_bar.sum(axis=1).mean(axis=0)

## a5_action input_pair | y without the damping on s but on the mean | mean|ā|a
def input_pair(H_a, a_mean, A, *, lam):
    s = H_a @ a_mean
    As = A @ s if A.ndim == 2 else hessian_action(A, s)
    return Pair(s, As + lam * a_mean)

## a5_action input_pair | H transposed is harmless but A s uses the mean | s
def input_pair(H_a, a_mean, A, *, lam):
    s = H_a @ a_mean
    As = A @ a_mean if A.ndim == 2 else hessian_action(A, a_mean)
    return Pair(s, As + lam * s)

## a6_step output_pair | old minus new | sign
def output_pair(first, second):
    s = (first.h - second.h).mean(axis=(0, 1))
    y = (first.Dh - second.Dh).mean(axis=(0, 1))
    return Pair(s, y)

## a6_step output_pair | y from the second pass alone | Dh|y
def output_pair(first, second):
    s = (second.h - first.h).mean(axis=(0, 1))
    y = second.Dh.mean(axis=(0, 1))
    return Pair(s, y)

## a6_step output_pair | sum over locations | T|location|sum
def output_pair(first, second):
    s = (second.h - first.h).mean(axis=0).sum(axis=0)
    y = (second.Dh - first.Dh).mean(axis=0).sum(axis=0)
    return Pair(s, y)

## a6_step average_pair | weights exchanged | decay|swapped
def average_pair(old, new, *, decay):
    return Pair((1 - decay) * old.s + decay * new.s, (1 - decay) * old.y + decay * new.y)

## a6_step average_pair | y is not averaged | y
def average_pair(old, new, *, decay):
    return Pair(decay * old.s + (1 - decay) * new.s, new.y)

## a6_step average_pair | adds without 1 - decay | decay
def average_pair(old, new, *, decay):
    return Pair(decay * old.s + new.s, decay * old.y + new.y)

## a6_step kfqn_step | the gradient where the average M belongs | M|momentum
def kfqn_step(network, params, blocks, x, target, *, lr, damping, momentum, pair_decay):
    lam = np.sqrt(damping)
    one = forward_backward(network, params, x, target)
    W2, Ms = [], []
    for W, b, g in zip(params, blocks, one.grads):
        Ms.append(momentum * b.M + (1 - momentum) * g)
        W2.append(W - lr * b.H_g @ g @ b.H_a)
    two = forward_backward(network, tuple(W2), x, target)
    return _finish(W2, blocks, Ms, one, two, lam, lam, pair_decay)

## a6_step kfqn_step | input side with the records of the second pass | pass|second|first
def kfqn_step(network, params, blocks, x, target, *, lr, damping, momentum, pair_decay):
    lam = np.sqrt(damping)
    one = forward_backward(network, params, x, target)
    W2, Ms = [], []
    for W, b, g in zip(params, blocks, one.grads):
        M = momentum * b.M + (1 - momentum) * g
        Ms.append(M)
        W2.append(W - lr * b.H_g @ M @ b.H_a)
    two = forward_backward(network, tuple(W2), x, target)
    return _finish(W2, blocks, Ms, one, two, lam, lam, pair_decay, inputs=two)

## a6_step kfqn_step | momentum without 1 - beta | momentum|β|M
def kfqn_step(network, params, blocks, x, target, *, lr, damping, momentum, pair_decay):
    lam = np.sqrt(damping)
    one = forward_backward(network, params, x, target)
    W2, Ms = [], []
    for W, b, g in zip(params, blocks, one.grads):
        M = momentum * b.M + g
        Ms.append(M)
        W2.append(W - lr * b.H_g @ M @ b.H_a)
    two = forward_backward(network, tuple(W2), x, target)
    return _finish(W2, blocks, Ms, one, two, lam, lam, pair_decay)

## a6_step kfqn_step | keeps the damped pair as the average | damped|undamped|s_g
def kfqn_step(network, params, blocks, x, target, *, lr, damping, momentum, pair_decay):
    lam = np.sqrt(damping)
    one = forward_backward(network, params, x, target)
    W2, Ms = [], []
    for W, b, g in zip(params, blocks, one.grads):
        M = momentum * b.M + (1 - momentum) * g
        Ms.append(M)
        W2.append(W - lr * b.H_g @ M @ b.H_a)
    two = forward_backward(network, tuple(W2), x, target)
    return _finish(W2, blocks, Ms, one, two, lam, lam, pair_decay, keep_damped=True)

## a7_assumptions assumption_errors | not divided by the exact norm | norm|exact|divid|scale
def assumption_errors(a_bar, Hh):
    N, T = a_bar.shape[:2]
    exact = sum(np.kron(np.outer(a_bar[n, t], a_bar[n, u]), Hh[n, t, :, u]) for n in range(N) for t in range(T) for u in range(T)) / N
    sud = sum(np.kron(np.outer(a_bar[n, t], a_bar[n, t]), Hh[n, t, :, t]) for n in range(N) for t in range(T)) / N
    iad = sum(np.kron(np.einsum("na,nb->ab", a_bar[:, t], a_bar[:, t]) / N, Hh[:, t, :, t].mean(axis=0)) for t in range(T))
    A = np.einsum("nta,ntb->ab", a_bar, a_bar) / N
    G = np.einsum("ntgth->gh", Hh) / (N * T)
    sh = np.kron(A, G)
    f = np.linalg.norm
    return {"SUD": f(sud - exact), "IAD": f(iad - sud), "SH": f(sh - iad), "total": f(sh - exact)}

## a7_assumptions assumption_errors | each error against the exact block | IAD|SUD|exact
def assumption_errors(a_bar, Hh):
    N, T = a_bar.shape[:2]
    exact = sum(np.kron(np.outer(a_bar[n, t], a_bar[n, u]), Hh[n, t, :, u]) for n in range(N) for t in range(T) for u in range(T)) / N
    sud = sum(np.kron(np.outer(a_bar[n, t], a_bar[n, t]), Hh[n, t, :, t]) for n in range(N) for t in range(T)) / N
    iad = sum(np.kron(np.einsum("na,nb->ab", a_bar[:, t], a_bar[:, t]) / N, Hh[:, t, :, t].mean(axis=0)) for t in range(T))
    A = np.einsum("nta,ntb->ab", a_bar, a_bar) / N
    G = np.einsum("ntgth->gh", Hh) / (N * T)
    sh = np.kron(A, G)
    f = np.linalg.norm
    e = f(exact)
    return {"SUD": f(sud - exact) / e, "IAD": f(iad - exact) / e, "SH": f(sh - exact) / e, "total": f(sh - exact) / e}

## a7_assumptions assumption_errors | G is not divided by T | SH|T
def assumption_errors(a_bar, Hh):
    N, T = a_bar.shape[:2]
    exact = sum(np.kron(np.outer(a_bar[n, t], a_bar[n, u]), Hh[n, t, :, u]) for n in range(N) for t in range(T) for u in range(T)) / N
    sud = sum(np.kron(np.outer(a_bar[n, t], a_bar[n, t]), Hh[n, t, :, t]) for n in range(N) for t in range(T)) / N
    iad = sum(np.kron(np.einsum("na,nb->ab", a_bar[:, t], a_bar[:, t]) / N, Hh[:, t, :, t].mean(axis=0)) for t in range(T))
    A = np.einsum("nta,ntb->ab", a_bar, a_bar) / N
    G = np.einsum("ntgth->gh", Hh) / N
    sh = np.kron(A, G)
    f = np.linalg.norm
    e = f(exact)
    return {"SUD": f(sud - exact) / e, "IAD": f(iad - sud) / e, "SH": f(sh - iad) / e, "total": f(sh - exact) / e}
'''

# What some of them call: pieces that are right.
HELPERS = '''
def _patches(conv, a, stride=None):
    sh, sw = stride or conv.stride
    kh, kw = conv.kernel_size
    ph, pw = conv.padding
    dh, dw = conv.dilation
    N, C, H, W = a.shape
    R = (H + 2 * ph - dh * (kh - 1) - 1) // sh + 1
    Q = (W + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    x = np.pad(a, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    out = np.zeros((N, R * Q, C * kh * kw))
    for r in range(R):
        for q in range(Q):
            rows = r * sh + dh * np.arange(kh)
            columns = q * sw + dw * np.arange(kw)
            out[:, r * Q + q] = x[:, :, rows][:, :, :, columns].reshape(N, -1)
    return out


def _finish(W2, blocks, Ms, one, two, lam_a, lam_g, decay, inputs=None, keep_damped=False):
    new = []
    sides = zip(blocks, Ms, (inputs or one).records, one.records, two.records)
    for b, M, seen, r1, r2 in sides:
        s, y = input_pair(b.H_a, input_mean(seen.a_bar), seen.a_bar, lam=lam_a)
        Ha = bfgs_inverse_update(b.H_a, s, y) if s @ y > 0 else b.H_a
        ds, dy = (r2.h - r1.h).mean(axis=(0, 1)), (r2.Dh - r1.Dh).mean(axis=(0, 1))
        s_g, y_g = decay * b.s_g + (1 - decay) * ds, decay * b.y_g + (1 - decay) * dy
        Hg = b.H_g
        if y_g @ Hg @ y_g > 0:
            s, y = dp_dlm_damp(Hg, s_g, y_g, lam=lam_g)
            if s @ y > 0:
                Hg = bfgs_inverse_update(Hg, s, y)
            if keep_damped:
                s_g, y_g = s, y
        new.append(Block(M, Ha, Hg, s_g, y_g))
    return tuple(W2), tuple(new)
'''

WRONG = _parse(TEXT)
