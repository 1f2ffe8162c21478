//! What can be the function of a call, with a context and without: where the types of a call become a function that workers run.

use std::marker::PhantomData;

pub(super) use self::sealed::Run;

/// Says of a [`Call`](crate::Call) that its tasks share a context of type `C`.
#[derive(Debug)]
pub struct With<C>(PhantomData<fn(C)>);

/// A function that can be called with the arguments `Args`, as a task of a [`Call<C>`](crate::Call); `Output` is what it returns.
///
/// Every [`Function`](mp_core::call::Function) of these arguments is one of a call without context. One of a call [`With`] context
/// has a reference to the context in front of its arguments.
pub trait TaskFunction<C, Args>: sealed::Runs<C, Args> {}

impl<F: sealed::Runs<C, Args>, C, Args> TaskFunction<C, Args> for F {}

mod sealed {
    use mp_core::call::{Function, Landing, Pointer, conjure};
    use serde::{Serialize, de::DeserializeOwned};

    use super::With;
    use crate::worker::Runner;

    /// The function that workers run.
    #[derive(Debug)]
    pub struct Run(pub(crate) Pointer<Runner>);

    pub trait Runs<C, Args> {
        type Output;

        fn run() -> Run;
    }

    impl<F, Args> Runs<(), Args> for F
    where
        F: Function<Args>,
        Args: DeserializeOwned,
        F::Output: Serialize,
    {
        type Output = F::Output;

        fn run() -> Run {
            Run(Pointer(
                const { &Landing::new((|work| work.run(|args: Args| conjure::<F, Args>().call(args))) as Runner) },
            ))
        }
    }

    macro_rules! with_context {
        ($($arg:ident)*) => {
            impl<F, C, $($arg,)* R> Runs<With<C>, ($($arg,)*)> for F
            where
                F: for<'c> Function<(&'c C, $($arg),*), Output = R>,
                C: DeserializeOwned + 'static,
                ($($arg,)*): DeserializeOwned,
                R: Serialize,
            {
                type Output = R;

                #[allow(non_snake_case, reason = "the names of the types serve as names of the values")]
                fn run() -> Run {
                    Run(Pointer(const {
                        &Landing::new((|work| {
                            work.run_with(|context: &C, ($($arg,)*): ($($arg,)*)| {
                                conjure::<F, (&C, $($arg),*)>().call((context, $($arg),*))
                            })
                        }) as Runner)
                    }))
                }
            }
        };
    }

    with_context!();
    with_context!(A);
    with_context!(A B);
    with_context!(A B D);
    with_context!(A B D E);
    with_context!(A B D E G);
    with_context!(A B D E G H);
    with_context!(A B D E G H I);
}
